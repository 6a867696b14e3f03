"""Progress on standard error; of an ingest a live display on a terminal, JSON lines elsewhere."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

JSON_INTERVAL_S = 2.0
Step = Callable[[str, int, int], None]  # what is done, how much of it, of how many


class Counts(Protocol):
    """What there is to show: counts, and when the first page was embedded (seconds, Unix time)."""

    documents: int
    documents_done: int
    pages: int
    pages_done: int
    failures: int
    began: float

    @property
    def documents_opened(self) -> int: ...


class ProgressView(Protocol):
    """Shows counts while a job runs."""

    def __enter__(self) -> "ProgressView": ...

    def __exit__(self, *error: object) -> None: ...

    def update(self, counts: Counts) -> None: ...


def measure(counts: Counts) -> tuple[float, float | None]:
    """(pages a second since the first was embedded, seconds left or None while unknown)."""
    if not counts.began or not counts.pages_done:
        return 0.0, None
    rate = counts.pages_done / max(time.time() - counts.began, 1e-3)
    # Documents not opened yet are taken to be as long as the others.
    unopened = counts.documents - counts.documents_opened
    mean = counts.pages / max(1, counts.documents_opened)
    return rate, (counts.pages - counts.pages_done + unopened * mean) / rate


class JsonLines:
    """One JSON object a line, every few seconds and at the end."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._next_s = 0.0
        self._last: Counts | None = None

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *error: object) -> None:
        if self._last is not None:
            self._write(self._last)

    def update(self, counts: Counts) -> None:
        self._last = counts
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + JSON_INTERVAL_S
            self._write(counts)

    def _write(self, counts: Counts) -> None:
        rate, left_s = measure(counts)
        line = {
            "documents": counts.documents,
            "documents_done": counts.documents_done,
            "pages": counts.pages,
            "pages_done": counts.pages_done,
            "pages_per_s": round(rate, 2),
            "eta_s": None if left_s is None else round(left_s),
            "failures": counts.failures,
        }
        print(json.dumps(line), file=self._stream, flush=True)


class TerminalBar:
    """A bar with documents, pages, pages/s, time left and failures."""

    def __init__(self, console: Console, doing: str) -> None:
        self._doing = doing
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("starting", total=None, facts="")

    def __enter__(self) -> "TerminalBar":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def update(self, counts: Counts) -> None:
        rate, left_s = measure(counts)
        facts = (
            f"{counts.pages_done}/{counts.pages} pages · {rate:.1f} pages/s · "
            f"{counts.documents_done}/{counts.documents} documents"
        )
        if left_s is not None:
            facts += f" · {_duration(left_s)} left"
        if counts.failures:
            facts += f" · [red]{counts.failures} failures[/red]"
        self._progress.update(
            self._task,
            description=self._doing,
            total=counts.pages or None,
            completed=counts.pages_done,
            facts=facts,
        )


def progress_view(doing: str = "ingesting") -> ProgressView:
    """Return the view that suits where standard error goes."""
    console = Console(stderr=True)
    return TerminalBar(console, doing) if console.is_terminal else JsonLines(sys.stderr)


@contextmanager
def show_steps() -> Iterator[Step]:
    """Show on standard error how far steps are; yields what takes (step, done, in all)."""
    with Progress(console=Console(stderr=True)) as progress:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=total)
            progress.update(tasks[step], completed=done, total=total)

        yield show


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes}:{rest:02}"
