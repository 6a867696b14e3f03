"""Load on a service from clients of its own: closed loops and a fixed rate, and what came back."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np

TIMEOUT_S = 60.0
RETRY_PAUSE_S = 0.5
NO_ANSWER = 0  # stands for a status where the connection broke


@dataclass
class Outcome:
    """What clients saw: seconds and status of each request, and whether a refusal said when."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    first_tries: Counter[bool] = field(default_factory=Counter)
    in_the_end: Counter[bool] = field(default_factory=Counter)
    without_retry_after: int = 0
    bodies: list[Any] = field(default_factory=list)
    elapsed_s: float = 0.0

    def percentile_ms(self, share: float) -> float:
        return float(np.percentile(self.seconds, share) * 1000) if self.seconds else float("nan")

    @property
    def per_s(self) -> float:
        return len(self.seconds) / self.elapsed_s if self.elapsed_s else 0.0


class Load:
    """Clients that post one kind of request to one URL."""

    def __init__(self, url: str, bodies: list[Any], *, retries: int = 0) -> None:
        self._url = url
        self._bodies = bodies
        self._retries = retries
        self._sent = 0
        self.outcome = Outcome()

    async def closed(self, clients: int, seconds: float) -> Outcome:
        """Each client sends its next request when it has the answer to the last one."""
        end = time.monotonic() + seconds

        async def client(session: aiohttp.ClientSession) -> None:
            while time.monotonic() < end:
                await self._request(session)

        await self._run(clients, client)
        return self.outcome

    async def open(self, per_s: float, seconds: float) -> Outcome:
        """Requests come at a fixed rate, whatever becomes of those before."""
        pending: set[asyncio.Task[None]] = set()

        async def arrivals(session: aiohttp.ClientSession) -> None:
            started = time.monotonic()
            for number in range(int(per_s * seconds)):
                await asyncio.sleep(max(0.0, started + number / per_s - time.monotonic()))
                task = asyncio.create_task(self._request(session))
                pending.add(task)
                task.add_done_callback(pending.discard)
            await asyncio.gather(*pending)

        await self._run(1, arrivals)
        return self.outcome

    async def _run(
        self, clients: int, client: Callable[[aiohttp.ClientSession], Awaitable[None]]
    ) -> None:
        started = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            await asyncio.gather(*(client(session) for _ in range(clients)))
        self.outcome.elapsed_s = time.monotonic() - started

    async def _request(self, session: aiohttp.ClientSession) -> None:
        """One request, tried again where a client may."""
        body = self._bodies[self._sent % len(self._bodies)]
        self._sent += 1
        for attempt in range(1 + self._retries):
            status, pause_s = await self._try(session, body)
            if attempt == 0:
                self.outcome.first_tries[status == 200] += 1
            if status == 200:
                break
            if attempt < self._retries:
                await asyncio.sleep(pause_s)
        self.outcome.in_the_end[status == 200] += 1

    async def _try(self, session: aiohttp.ClientSession, body: Any) -> tuple[int, float]:
        """Post once; returns the status, and how long to wait before the next try."""
        started, pause_s = time.perf_counter(), RETRY_PAUSE_S
        try:
            async with session.post(self._url, json=body) as response:
                found = await response.json()
                status = response.status
                pause_s = float(response.headers.get("Retry-After", RETRY_PAUSE_S))
                if status in (429, 503) and "Retry-After" not in response.headers:
                    self.outcome.without_retry_after += 1
        except (aiohttp.ClientError, TimeoutError, ValueError):
            status, found = NO_ANSWER, None
        self.outcome.statuses[status] += 1
        if status == 200:
            self.outcome.seconds.append(time.perf_counter() - started)
            self.outcome.bodies.append(found.get("took_ms"))
        return status, pause_s
