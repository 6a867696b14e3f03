"""Waiting inputs → batches under a token budget, computed one after the other off the event loop.

While a batch is computed the next one gathers: nobody waits for a timer. An input that was given
up (its client went away, its time is over) is left out when its turn comes.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from cluster.errors import DeadlineExceeded, Overloaded
from cluster.metrics import service_metrics

SMOOTHING = 0.2  # weight of the newest batch in the measured speed


class Sized(Protocol):
    @property
    def tokens(self) -> int: ...


Item = TypeVar("Item", bound=Sized)
Result = TypeVar("Result")


@dataclass
class _Waiting(Generic[Item, Result]):
    item: Item
    deadline: float
    future: "asyncio.Future[Result]"
    counted: bool = True  # among the tokens that wait


class TokenBatcher(Generic[Item, Result]):
    """One model's queue. `compute` runs on a thread of its own, a batch at a time."""

    def __init__(
        self,
        name: str,
        compute: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        batch_tokens: int,
        max_wait_s: float,
    ) -> None:
        self.name = name
        self._compute = compute
        self._batch_tokens = batch_tokens
        self._max_wait_s = max_wait_s
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._waiting_tokens = 0  # of the queue and of the batch in work
        self._tokens_per_s: float | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-model")
        self._task: asyncio.Task[None] | None = None
        self._tags = {"deployment": name}

    async def submit(self, items: Sequence[Item], timeout_s: float) -> list[Result]:
        """Results in the order of the items.

        Raises Overloaded at once where the queue is too long, DeadlineExceeded where the time is
        over before the batch begins.
        """
        if not items:
            return []
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

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            started = time.monotonic()
            try:
                results = await loop.run_in_executor(
                    self._thread, self._compute, [each.item for each in batch]
                )
            except Exception as error:  # noqa: BLE001 — belongs to those who wait, not to the loop
                for each in batch:
                    _settle(each.future, error=error)
            else:
                self._measure(batch, time.monotonic() - started)
                for each, result in zip(batch, results, strict=True):
                    _settle(each.future, result=result)
            for each in batch:
                self._release(each)

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
