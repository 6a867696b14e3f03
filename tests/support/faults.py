"""Ingests of a long document in a process of their own, in which a test breaks something.

`python -m tests.support.faults '{"embedder": "Counting", …}'` is the driver; its embedding workers
write down which pages they embed, and some of them misbehave.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import jobs.ingest.pipeline
from cluster.core import Document
from cluster.errors import QuireError
from cluster.runtime import ray_session
from cluster.settings import load_settings
from cluster.store.milvus import open_store
from jobs.ingest.embed import EmbedPages, PageBytes
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest
from tests.support.documents import a_document, save
from tests.support.paths import ROOT

PAGES = 500
POISONED = 123  # the page that Poisoned and Blocked stumble over
# Small pages: what is broken is not how fast they are embedded.
FAST = {"ocr": "off", "max_pixels": 16_384, "keep_pixels": 0, "render_workers": 1}


class Counting(EmbedPages):
    """Writes down the pages that it embeds."""

    def _embed(self, works: list[PageBytes]) -> dict[str, bytes]:
        vectors = super()._embed(works)
        note(self.context.settings.data_dir, [page.page for page, _ in works])
        return vectors


class Poisoned(Counting):
    """Dies of one page, every time."""

    def _embed(self, works: list[PageBytes]) -> dict[str, bytes]:
        if POISONED in [page.page for page, _ in works]:
            note(self.context.settings.data_dir, [-POISONED])
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._embed(works)


class Blocked(Counting):
    """Waits for ever with one page, the first time that it sees it."""

    def _embed(self, works: list[PageBytes]) -> dict[str, bytes]:
        mark = self.context.settings.data_dir / "blocked"
        if POISONED in [page.page for page, _ in works] and not mark.exists():
            mark.touch()
            time.sleep(3600)
        return super()._embed(works)


def note(folder: Path, pages: list[int]) -> None:
    """Append pages to the list of those embedded; one short write is never torn."""
    handle = os.open(folder / "embedded.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, "".join(f"{page}\n" for page in pages).encode())
    os.close(handle)


def write_survey(folder: Path, pages: int = PAGES) -> Path:
    path = folder / "survey.pdf"
    sheets = (f"Sheet {n} of the survey of {n * 7 % 500} bridges" for n in range(1, pages + 1))
    save(a_document(*sheets, width=200, height=200, font="helv"), path)
    return path


@dataclass
class Ingest:
    """An ingest that runs; `seconds` once it has ended."""

    process: "subprocess.Popen[str]"
    folder: Path
    began: float = field(default_factory=time.monotonic)

    def pages_done(self) -> int:
        return len(embedded(self.folder))

    def wait_for_pages(self, pages: int, within_s: float = 240) -> None:
        self.until(lambda: self.pages_done() >= pages, within_s)

    def until(self, condition: Callable[[], object], within_s: float = 240) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def end(self, within_s: float = 400) -> Any:
        """Wait for the end; returns what was printed as JSON."""
        out, errors = self.process.communicate(timeout=within_s)
        assert out, errors[-4000:]
        return json.loads(out)


@contextmanager
def ingest(folder: Path, *, embedder: str = "Counting", **settings: Any) -> Iterator[Ingest]:
    """An ingest of the survey in a folder, killed at the end where it still runs."""
    wanted = {"embedder": embedder, "settings": {"store": str(folder / "data"), **FAST, **settings}}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.faults", json.dumps(wanted)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Ingest(process, folder)
        finally:
            process.kill()


def embedded(folder: Path) -> list[int]:
    """The pages that were embedded, as often as they were."""
    file = folder / "data" / "embedded.txt"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def workers(stage: str) -> list[psutil.Process]:
    """The processes of Ray that work in a stage, of any ingest on this machine."""
    return [each for each in _processes() if f"({stage})" in _line(each)]


def renderers() -> list[psutil.Process]:
    """The rendering processes that the workers of ingests have started."""
    workers_ids = {each.pid for each in workers("RenderPages")}
    processes = [each for each in _processes() if "jobs.rendering.process" in _line(each)]
    return [each for each in processes if each.ppid() in workers_ids]


def milvus_of(folder: Path) -> psutil.Process:
    state = folder / "data" / "milvus" / "server.json"
    return psutil.Process(json.loads(state.read_text())["pid"])


def wait_until_quiet(within_s: float = 90) -> None:
    """Wait until the workers of an ingest that was killed are gone: they may still write."""
    deadline = time.monotonic() + within_s
    while any("ray::Map" in _line(each) for each in _processes()):
        assert time.monotonic() < deadline, "the workers of the killed job live on"
        time.sleep(0.2)


@dataclass
class Indexed:
    """What the store has, counted at strong consistency."""

    document: Document
    pages: set[int]
    rows: int


def indexed(folder: Path) -> Indexed:
    with open_store(load_settings(store=str(folder / "data"))) as store:
        (document,) = store.documents()
        rows = store.client.count(store.required().pages, "")
        return Indexed(document, store.pages_present(document), rows)


def embedded_twice(folder: Path) -> int:
    """How many pages were embedded more often than once."""
    counts = Counter(page for page in embedded(folder) if page > 0)
    return sum(count > 1 for count in counts.values())


def _processes() -> list[psutil.Process]:
    return list(psutil.process_iter(["cmdline"]))


def _line(process: psutil.Process) -> str:
    return " ".join(process.info["cmdline"] or ())


def main() -> None:
    """Run one ingest, and print its report."""
    wanted = json.loads(sys.argv[1])
    settings = load_settings(**wanted["settings"])
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    jobs.ingest.pipeline.EmbedPages = globals()[wanted["embedder"]]  # type: ignore
    try:
        with ray_session(settings):
            report = run_ingest(settings, IngestRequest(("survey.pdf",)))
    except QuireError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
    else:
        report.write_json(sys.stdout)


if __name__ == "__main__":
    main()
