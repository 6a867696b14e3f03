"""Waiting inputs → batches under a token budget, computed one after the other off the event loop.

While a batch is computed the next one gathers: nobody waits for a timer. On a GPU it is packed and
queued before the results of the one before are back, so that the device finds it there. An input
that was given up (its client went away, its time is over) is left out when its turn comes.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from cluster.errors import DeadlineExceeded, Overloaded
from cluster.metrics import service_metrics
from serve.deployments.serial import in_turn

IN_FLIGHT = 2  # batches: one that the device computes, one that is queued behind it
SMOOTHING = 0.2  # weight of the newest batch in the measured speed


class Sized(Protocol):
    @property
    def tokens(self) -> int: ...


Item = TypeVar("Item", bound=Sized)
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
Arguments = ParamSpec("Arguments")
Other = TypeVar("Other")


class Pending(Protocol[Result_co]):
    """A batch that the device has been given."""

    def wait(self) -> Sequence[Result_co]:
        """Return the results, in the order of the items, once they are there."""
        ...


@dataclass
class _Waiting(Generic[Item, Result]):
    item: Item
    deadline: float
    future: "asyncio.Future[Result]"
    counted: bool = True  # among the tokens that wait


class TokenBatcher(Generic[Item, Result]):
    """One model's queue. `start` runs on a thread of its own, a batch at a time."""

    def __init__(
        self,
        name: str,
        start: Callable[[Sequence[Item]], Pending[Result]],
        *,
        batch_tokens: int,
        max_wait_s: float,
    ) -> None:
        self.name = name
        self._start = start
        self._batch_tokens = batch_tokens
        self._max_wait_s = max_wait_s
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._waiting_tokens = 0  # of the queue and of the batch in work
        self._tokens_per_s: float | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-model")
        self._results = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix=f"{name}-results")
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._ended = 0.0  # when the last results came back
        self._tags = {"deployment": name}

    async def submit(
        self, items: Sequence[Item], timeout_s: float, *, is_admitted: bool = False
    ) -> list[Result]:
        """Results in the order of the items; `is_admitted`: they are part of what was let in.

        Raises Overloaded at once where the queue is too long, DeadlineExceeded where the time is
        over before the batch begins.
        """
        if not items:
            return []
        if not is_admitted:
            self.admit(timeout_s)
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + timeout_s
        waiting = [_Waiting(item, deadline, loop.create_future()) for item in items]
        self._queue.extend(waiting)
        self._waiting_tokens += sum(item.tokens for item in items)
        service_metrics().queue_depth.set(len(self._queue), self._tags)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work())
        try:
            return list(await asyncio.gather(*(each.future for each in waiting)))
        finally:  # cancelled, or one of them failed: nobody wants the others
            for each in waiting:
                if not each.future.done():
                    each.future.cancel()
                    self._release(each)

    def expected_wait_s(self) -> float:
        """Estimate how long a new input would wait by the speed so far; 0 while it is unknown."""
        return self._waiting_tokens / self._tokens_per_s if self._tokens_per_s else 0.0

    def admit(self, timeout_s: float) -> None:
        """Raise Overloaded where a new input would wait too long."""
        wait_s = self.expected_wait_s()
        if wait_s > min(self._max_wait_s, timeout_s):
            service_metrics().refused.inc(1, self._tags)
            raise Overloaded(
                f"the {self.name} is busy for {wait_s:.1f} s: try again then",
                retry_after_s=max(1.0, wait_s),
            )

    async def in_turn(
        self,
        timeout_s: float,
        work: Callable[Arguments, Other],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Other:
        """Run other work of the model between two batches. Raises Overloaded, DeadlineExceeded."""
        self.admit(timeout_s)
        return await in_turn(self._thread, timeout_s, partial(work, *args, **kwargs))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()  # the batch is closed as late as it can be
            batch = self._next_batch()
            if not batch:
                self._room.release()
                return
            started = time.monotonic()
            try:
                items = [each.item for each in batch]
                pending = await loop.run_in_executor(self._thread, self._start, items)
            except Exception as error:  # noqa: BLE001 — belongs to those who wait, not to the loop
                self._fail(batch, error)
            else:
                ending = loop.create_task(self._end(batch, pending, started))
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)

    async def _end(
        self, batch: "list[_Waiting[Item, Result]]", pending: Pending[Result], started: float
    ) -> None:
        """Wait for the results of a batch, and hand them out."""
        try:
            loop = asyncio.get_running_loop()
            results = await loop.run_in_executor(self._results, pending.wait)
        except Exception as error:  # noqa: BLE001 — belongs to those who wait
            self._fail(batch, error)
            return
        now = time.monotonic()
        self._measure(batch, now - max(started, self._ended))  # it may have queued behind another
        self._ended = now
        for each, result in zip(batch, results, strict=True):
            _settle(each.future, result=result)
        self._leave(batch)

    def _fail(self, batch: "list[_Waiting[Item, Result]]", error: Exception) -> None:
        for each in batch:
            _settle(each.future, error=error)
        self._leave(batch)

    def _leave(self, batch: "list[_Waiting[Item, Result]]") -> None:
        """Make room for the batch after the next."""
        for each in batch:
            self._release(each)
        self._room.release()

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        """Return the longest-waiting inputs that fit into the budget; at least one."""
        batch: list[_Waiting[Item, Result]] = []
        room = self._batch_tokens
        now = time.monotonic()
        while self._queue and (not batch or self._queue[0].item.tokens <= room):
            first = self._queue.popleft()
            if first.future.done() or first.deadline < now:
                self._release(first)
                _settle(first.future, error=DeadlineExceeded("the time for this request is over"))
                continue
            batch.append(first)
            room -= first.item.tokens
        service_metrics().queue_depth.set(len(self._queue), self._tags)
        return batch

    def _release(self, waiting: "_Waiting[Item, Result]") -> None:
        """Its tokens do not wait any more."""
        if waiting.counted:
            waiting.counted = False
            self._waiting_tokens -= waiting.item.tokens

    def _measure(self, batch: "list[_Waiting[Item, Result]]", seconds: float) -> None:
        tokens = sum(each.item.tokens for each in batch)
        speed = tokens / max(seconds, 1e-4)
        known = self._tokens_per_s
        self._tokens_per_s = speed if known is None else known + SMOOTHING * (speed - known)
        service_metrics().batch_tokens.observe(tokens, self._tags)
        service_metrics().padding_share.set(0.0, self._tags)  # batches are packed, never padded


def _settle(future: "asyncio.Future[Any]", *, result: Any = None, error: Any = None) -> None:
    if future.done():  # whoever waited has gone
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
