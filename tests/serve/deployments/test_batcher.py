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


class Model:
    """Notes what it is given; computes while its gate is open."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[Item]) -> list[str]:
        self.batches.append([item.name for item in items])
        self.gate.wait(10)
        if any(item.name == "bad" for item in items):
            raise InvalidInput("bad")
        return [item.name.upper() for item in items]


def batcher(
    model: Model, *, batch_tokens: int = 30, max_wait_s: float = 60
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
