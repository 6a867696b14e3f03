"""Watches the workers of an ingest: what each works on since when, and how often a page was tried.

A worker tells before and after each piece of work; what was begun and never ended has taken its
worker along, or the worker is stuck in it. Of workers that are processes of Ray, one small actor
keeps the watch (watch_actor.py), and the driver has the stuck replaced.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from cluster.errors import QuireError
from jobs.ingest.rows import PageWork

MAX_TRIES = 3  # of a page that ends its worker, and of a worker that ends while it starts
Work = TypeVar("Work")
START_FACTOR = 5  # loading a model may take so many times as long as a piece of work


class WorkerEnds(QuireError):
    """A worker ended each time that it was started."""


@dataclass(frozen=True)
class Stuck:
    """A worker that was replaced, for it had worked on the same for too long."""

    name: str
    doing: tuple[str, ...]
    seconds: float


class Watcher(Protocol):
    """The watch as workers and the driver ask it, wherever it is kept."""

    def worker(self) -> tuple[str, Any]:
        """Return the id of the worker that asks, and the handle by which it can be ended."""
        ...

    def begin(
        self,
        piece: str,
        actor: str,
        name: str,
        handle: Any,
        keys: Sequence[str],
        factor: float = 1,
    ) -> None: ...

    def touch(self, actor: str) -> None: ...

    def tries(self, keys: Sequence[str]) -> list[int]: ...

    def end(self, piece: str) -> None: ...

    def replace_stuck(self) -> list[Stuck]: ...

    def claim(self, claims: Sequence[tuple[str, str]]) -> list[str]: ...

    def sources(self) -> dict[str, str]: ...

    def add_chunks(self, counts: Sequence[tuple[str, str, int]]) -> list[int]: ...

    def close(self) -> None: ...


@dataclass
class _Work:
    actor: str
    name: str
    handle: Any
    keys: tuple[str, ...]
    began: float
    limit_s: float


@dataclass
class Watch:
    """What is known of all workers. `limit_s` is for one piece of work; `kill` ends a worker."""

    limit_s: float
    kill: Callable[[Any], None]
    _works: dict[str, _Work] = field(default_factory=dict)  # by piece: a worker may have several
    _tries: dict[str, int] = field(default_factory=dict)  # by what was begun and not ended
    _sources: dict[str, str] = field(default_factory=dict)  # by document
    _chunks: dict[str, int] = field(default_factory=dict)  # by document
    _page_chunks: dict[str, int] = field(default_factory=dict)  # by page: a page may be done again

    def worker(self) -> tuple[str, Any]:
        """Return the id of the worker that asks: here all are one process, which nobody ends."""
        return "", None

    def begin(
        self,
        piece: str,
        actor: str,
        name: str,
        handle: Any,
        keys: Sequence[str],
        factor: float = 1,
    ) -> None:
        """Enter what a worker begins. What the process before it had begun is over."""
        for other, work in list(self._works.items()):
            if work.actor == actor and work.name != name:
                del self._works[other]
        limit_s = self.limit_s * factor
        work = _Work(actor, name, handle, tuple(keys), time.monotonic(), limit_s)
        self._works[piece] = work
        for key in keys:
            self._tries[key] = self._tries.get(key, 0) + 1

    def touch(self, actor: str) -> None:
        """Enter that a worker gets on with what it has begun: its clock starts again."""
        for work in self._works.values():
            if work.actor == actor:
                work.began = time.monotonic()

    def tries(self, keys: Sequence[str]) -> list[int]:
        """Return how often each was begun and never ended."""
        return [self._tries.get(key, 0) for key in keys]

    def end(self, piece: str) -> None:
        """Enter that a worker ended a piece; its others may have waited for that one."""
        work = self._works.pop(piece, None)
        if work is None:
            return
        for key in work.keys:
            self._tries.pop(key, None)
        self.touch(work.actor)

    def replace_stuck(self) -> list[Stuck]:
        """Kill the workers that are stuck; Ray starts them again, and they try again."""
        now = time.monotonic()
        late: dict[str, _Work] = {}  # by actor what it has been at for longest
        for work in sorted(self._works.values(), key=lambda work: work.began):
            if now - work.began > work.limit_s:
                late.setdefault(work.actor, work)
        self._works = {piece: work for piece, work in self._works.items() if work.actor not in late}
        for work in late.values():
            self.kill(work.handle)
        return [Stuck(work.name, work.keys, now - work.began) for work in late.values()]

    def claim(self, claims: Sequence[tuple[str, str]]) -> list[str]:
        """Return for each (document, source) the source it is ingested from: the first to ask."""
        return [self._sources.setdefault(document, source) for document, source in claims]

    def sources(self) -> dict[str, str]:
        """Return the source of every document that was claimed, by document."""
        return dict(self._sources)

    def add_chunks(self, counts: Sequence[tuple[str, str, int]]) -> list[int]:
        """Count chunks by (document, page): how many each document has with them."""
        totals = []
        for document, page, chunks in counts:
            more = chunks - self._page_chunks.get(page, 0)
            self._page_chunks[page] = chunks
            self._chunks[document] = self._chunks.get(document, 0) + more
            totals.append(self._chunks[document])
        return totals

    def close(self) -> None:
        """End the watch."""


class Watched:
    """A worker's side of the watch."""

    def __init__(self, watch: Watcher, stage: str) -> None:
        self._watch = watch
        self._actor, self._handle = watch.worker()
        self._stage = stage
        self._alone = threading.Lock()
        self.name = f"{stage} worker {os.getpid()} on {socket.gethostname()}"

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Watch the start of the worker. Raises WorkerEnds where it ended too often in it."""
        key = f"start of {self._actor}"
        (tries,) = self.tries([key])
        if tries >= MAX_TRIES:
            raise WorkerEnds(
                f"the {self.name} ended {tries} times while it started: look for what the system "
                "says of it (too little memory?), or take a smaller model"
            )
        with self.working([key], START_FACTOR):
            yield

    @contextmanager
    def working(self, keys: Sequence[str], factor: float = 1) -> Iterator[None]:
        """Watch a piece of work, which may take `factor` times as long as another."""
        piece = uuid.uuid4().hex
        self._watch.begin(piece, self._actor, self.name, self._handle, list(keys), factor)
        try:
            yield
        finally:
            self._watch.end(piece)

    def each(
        self,
        pages: Sequence[PageWork],
        works: Sequence[Work],
        do: Callable[[list[Work]], object],
    ) -> None:
        """Do the works of pages together; one by one where a page has taken a worker along.

        `works` has one for each of `pages`. Safe to call from several threads: of all of them one
        page is alone at a time, so that its neighbours are not blamed.
        """
        names = [page.name for page in pages]
        if not any(self.tries(names)):
            if works:
                with self.working(names):
                    do(list(works))
            return
        with self._alone:
            for page, work, before in zip(pages, works, self.tries(names), strict=True):
                if before >= MAX_TRIES:
                    page.fail("worker_ended", f"it ended or blocked {before} {self._stage} workers")
                    continue
                with self.working([page.name]):
                    do([work])

    def get_on(self) -> None:
        """Say that a long piece of work gets on."""
        self._watch.touch(self._actor)

    def tries(self, keys: Sequence[str]) -> list[int]:
        """Return how often each was begun and took its worker along, or blocked it."""
        return self._watch.tries(list(keys))

    def claim(self, claims: Sequence[tuple[str, str]]) -> list[str]:
        """Return for each (document, source) the source it is ingested from: the first to ask."""
        return self._watch.claim(list(claims))

    def add_chunks(self, counts: Sequence[tuple[str, str, int]]) -> list[int]:
        """Count chunks by (document, page): how many each document has with them."""
        return self._watch.add_chunks(list(counts))
