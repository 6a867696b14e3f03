"""Work that is done one after the other on a thread of its own."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cluster.errors import DeadlineExceeded

T = TypeVar("T")


async def in_turn(
    worker: ThreadPoolExecutor, timeout_s: float, work: Callable[..., T], *args: object
) -> T:
    """Run work on the one thread; what its caller no longer waits for is not begun.

    Raises DeadlineExceeded.
    """
    deadline = time.monotonic() + timeout_s

    def run() -> T:
        if time.monotonic() > deadline:
            raise DeadlineExceeded("the request timed out in the queue: retry")
        return work(*args)

    return await asyncio.get_running_loop().run_in_executor(worker, run)
