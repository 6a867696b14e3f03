"""The queue before a model: budgets, deadlines, refusals, and inputs that were given up."""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from cluster.errors import DeadlineExceeded, InvalidInput, Overloaded
from serve.deployments.batcher import TokenBatcher


@dataclass(frozen=True)
class Item:
    name: str
    tokens: int = 10


@dataclass(frozen=True)
class Started:
    """A batch that is computed while its gate is shut."""

    names: list[str]
    gate: threading.Event
    fails: bool = False

    def wait(self) -> list[str]:
        self.gate.wait(10)
        if self.fails:
            raise InvalidInput("it failed on the device")
        return [name.upper() for name in self.names]


class Model:
    """Notes what it is given; computes while its gate is open, a CPU's way: before it returns."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[Item]) -> Started:
        self.batches.append([item.name for item in items])
        self.gate.wait(10)
        if any(item.name == "bad" for item in items):
            raise InvalidInput("bad")
        return Started(self.batches[-1], self.gate)


class Gpu:
    """Takes batches and returns at once; each ends when its gate opens."""

    def __init__(self) -> None:
        self.started: list[Started] = []

    def __call__(self, items: Sequence[Item]) -> Started:
        names = [item.name for item in items]
        self.started.append(Started(names, threading.Event(), fails="bad" in names))
        return self.started[-1]

    @property
    def batches(self) -> list[list[str]]:
        return [batch.names for batch in self.started]


def batcher(
    model: Model | Gpu, *, batch_tokens: int = 30, max_wait_s: float = 60
) -> TokenBatcher[Item, str]:
    return TokenBatcher("test", model, batch_tokens=batch_tokens, max_wait_s=max_wait_s)


async def until(condition: object) -> None:
    assert callable(condition)
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


def test_waiting_requests_share_batches_under_the_budget() -> None:
    async def run() -> None:
        model = Model()
        queue = batcher(model)
        model.gate.clear()
        first = asyncio.create_task(queue.submit([Item("a")], 10))
        await until(lambda: model.batches)
        rest = [asyncio.create_task(queue.submit([Item(name)], 10)) for name in "bcde"]
        await asyncio.sleep(0.02)
        model.gate.set()
        assert await first == ["A"]
        assert [await task for task in rest] == [["B"], ["C"], ["D"], ["E"]]
        assert model.batches == [["a"], ["b", "c", "d"], ["e"]]

    asyncio.run(run())


def test_one_input_over_the_budget_is_a_batch_of_its_own() -> None:
    async def run() -> None:
        model = Model()
        items = [Item("a", 20), Item("long", 99), Item("b", 20)]
        assert await batcher(model).submit(items, 10) == ["A", "LONG", "B"]
        assert model.batches == [["a"], ["long"], ["b"]]

    asyncio.run(run())


def test_what_was_given_up_or_is_too_late_is_left_out() -> None:
    async def run() -> None:
        model = Model()
        queue = batcher(model)
        model.gate.clear()
        first = asyncio.create_task(queue.submit([Item("a")], 10))
        await until(lambda: model.batches)
        gone = asyncio.create_task(queue.submit([Item("gone")], 10))
        late = asyncio.create_task(queue.submit([Item("late")], 0.01))
        kept = asyncio.create_task(queue.submit([Item("kept")], 10))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.sleep(0)
        model.gate.set()
        assert (await first, await kept) == (["A"], ["KEPT"])
        with pytest.raises(DeadlineExceeded):
            await late
        assert model.batches == [["a"], ["kept"]]
        assert queue.expected_wait_s() == 0

    asyncio.run(run())


def test_a_failing_batch_fails_alone() -> None:
    async def run() -> None:
        model = Model()
        queue = batcher(model, batch_tokens=10)
        bad = asyncio.create_task(queue.submit([Item("bad")], 10))
        good = asyncio.create_task(queue.submit([Item("good")], 10))
        with pytest.raises(InvalidInput):
            await bad
        assert await good == ["GOOD"]

    asyncio.run(run())


def test_a_gpu_has_the_next_batch_before_it_is_done_and_no_third() -> None:
    async def run() -> None:
        gpu = Gpu()
        queue = batcher(gpu)
        first = asyncio.create_task(queue.submit([Item("a")], 10))
        await until(lambda: gpu.batches == [["a"]])
        second = asyncio.create_task(queue.submit([Item("b")], 10))
        await until(lambda: gpu.batches == [["a"], ["b"]])
        rest = [asyncio.create_task(queue.submit([Item(name)], 10)) for name in "cd"]
        await asyncio.sleep(0.05)
        assert gpu.batches == [["a"], ["b"]]  # what comes now gathers
        gpu.started[0].gate.set()
        assert await first == ["A"] and not second.done()
        await until(lambda: gpu.batches == [["a"], ["b"], ["c", "d"]])
        for batch in gpu.started:
            batch.gate.set()
        assert [await task for task in (second, *rest)] == [["B"], ["C"], ["D"]]
        assert queue.expected_wait_s() == 0

    asyncio.run(run())


def test_a_batch_that_fails_on_the_device_fails_alone() -> None:
    async def run() -> None:
        gpu = Gpu()
        queue = batcher(gpu, batch_tokens=10)
        tasks = [asyncio.create_task(queue.submit([Item(name)], 10)) for name in ("bad", "good")]
        await until(lambda: len(gpu.started) == 2)
        for batch in gpu.started:
            batch.gate.set()
        bad, good = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(bad, InvalidInput) and good == ["GOOD"]
        third = asyncio.create_task(queue.submit([Item("c")], 10))
        await until(lambda: len(gpu.started) == 3)
        gpu.started[2].gate.set()
        assert await third == ["C"]

    asyncio.run(run())


def test_other_work_of_the_model_comes_between_two_batches() -> None:
    async def run() -> None:
        model = Model()
        queue = batcher(model)
        model.gate.clear()
        first = asyncio.create_task(queue.submit([Item("a")], 10))
        await until(lambda: model.batches)
        other = asyncio.create_task(queue.in_turn(10, lambda: list(model.batches)))
        late = asyncio.create_task(queue.in_turn(0.01, lambda: None))
        await asyncio.sleep(0.05)
        assert not other.done()
        model.gate.set()
        assert await first == ["A"] and await other == [["a"]]
        with pytest.raises(DeadlineExceeded):
            await late

    asyncio.run(run())


def test_a_queue_that_would_take_too_long_refuses_at_once() -> None:
    async def run() -> None:
        model = Model()
        queue = batcher(model, batch_tokens=10, max_wait_s=0.5)
        model.gate.clear()
        first = asyncio.create_task(queue.submit([Item("a")], 10))
        await until(lambda: model.batches)
        await asyncio.sleep(0.1)
        model.gate.set()
        await first  # about 100 tokens a second
        model.gate.clear()
        waiting = [asyncio.create_task(queue.submit([Item(str(n))], 10)) for n in range(20)]
        await asyncio.sleep(0)
        started = time.monotonic()
        with pytest.raises(Overloaded) as refusal:
            await queue.submit([Item("z")], 10)
        assert time.monotonic() - started < 0.1 and refusal.value.retry_after_s >= 1
        model.gate.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert any(isinstance(result, Overloaded) for result in results)
        assert any(isinstance(result, list) for result in results)

    asyncio.run(run())
