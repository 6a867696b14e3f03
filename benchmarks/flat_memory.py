"""Ingests of 1,000, 3,000 and 9,000 real pages: speed and memory; run by benchmarks/ingest.py.

The pages are those of 297 manuals of TeX Live: every ninth page of each, every third, and all, so
that each ingest has the same mix. Each runs in a process and a store of its own. Memory is what
belongs to no other process (USS) of the driver, Ray's processes, its workers and Milvus Lite, and
what Ray's object store takes in /dev/shm, looked at every SAMPLE_S.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import psutil
import pymupdf
from rich.table import Table

from benchmarks.corpus import BENCHMARK_PACKAGES, fetch, manual_pdfs
from cluster.runtime import ray_session
from cluster.settings import MIB, load_settings
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest

EVERY = {1000: 9, 3000: 3, 9000: 1}  # by about how many pages: one page of so many
SAMPLE_S = 5.0
BAR_SPEED, BAR_MEMORY = 0.10, 0.20
PLOT = Path("docs/images/ingest-memory.png")


@dataclass(frozen=True)
class Sample:
    """Memory at one moment, in MiB by part; `seconds` since the ingest began."""

    seconds: float
    mib: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.mib.values())


@dataclass(frozen=True)
class Run:
    """One ingest."""

    pages: int
    pages_per_s: float
    seconds: float
    spilled_bytes: int
    busiest: str
    samples: list[Sample]

    @property
    def peak_mib(self) -> float:
        return max(sample.total for sample in self.samples)

    @property
    def warm_mib(self) -> float:
        """The peak of the second half, when all workers have been up for long."""
        half = self.samples[-1].seconds / 2
        return max(sample.total for sample in self.samples if sample.seconds >= half)


class MemoryWatch:
    """Looks at the memory of this process and of all below it, on a thread."""

    def __init__(self, store_folder: Path) -> None:
        self.samples: list[Sample] = []
        self._store_folder = str(store_folder)
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._shared_before = shutil.disk_usage("/dev/shm").used  # noqa: S108 — Ray's own place
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.samples.append(Sample(time.monotonic() - self._began, self._look()))

    def _look(self) -> dict[str, float]:
        shared = shutil.disk_usage("/dev/shm").used - self._shared_before  # noqa: S108
        mib = defaultdict(float, {"object store": max(0, shared) / MIB})
        for process in _processes(self._store_folder):
            try:
                part = _part_of(process)
                mib[part] += process.memory_full_info().uss / MIB
            except psutil.Error:
                continue  # it ended meanwhile
        return dict(mib)


def _processes(store_folder: str) -> list[psutil.Process]:
    """List this process, those below it, and the Milvus Lite of a store."""
    own = psutil.Process()
    processes = {each.pid: each for each in (own, *own.children(recursive=True))}
    for each in psutil.process_iter(["cmdline"]):
        if "milvus" in "".join(each.info["cmdline"] or ()) and store_folder in "".join(
            each.info["cmdline"] or ()
        ):
            processes[each.pid] = each
    return list(processes.values())


def _part_of(process: psutil.Process) -> str:
    if process.pid == psutil.Process().pid:
        return "driver"
    command = " ".join(process.cmdline())
    if "milvus" in command and "ray::" not in command:
        return "Milvus Lite"
    return "Ray" if "raylet" in command or "gcs_server" in command else "workers"


def measure_memory(cache: Path, sizes: list[int]) -> Table:
    """Ingest each size in a process of its own; write the plot."""
    fetch(cache, BENCHMARK_PACKAGES)
    runs = []
    with tempfile.TemporaryDirectory(prefix="quire-benchmark-") as name:
        for size in sizes:
            folder = Path(name) / str(size)
            write_every(cache, folder / "pdfs", EVERY[size])
            command = [sys.executable, "-m", "benchmarks.flat_memory", str(folder)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            runs.append(_run_of(json.loads(done.stdout.splitlines()[-1])))
            shutil.rmtree(folder)
            print(_line(runs[-1]), file=sys.stderr)  # what is measured stays, whatever comes
    plot(runs)
    return to_table(runs)


def _line(run: Run) -> str:
    return (
        f"{run.pages:,} pages: {run.pages_per_s:.2f} pages/s, peak {run.peak_mib:,.0f} MiB, once "
        f"warm {run.warm_mib:,.0f} MiB, {run.spilled_bytes:,} bytes spilled"
    )


def write_every(cache: Path, folder: Path, step: int) -> None:
    """Write each manual with one page of `step`."""
    folder.mkdir(parents=True)
    first = 0
    for number, pdf in enumerate(manual_pdfs(cache, BENCHMARK_PACKAGES)):
        with pymupdf.open(pdf) as document:
            total = document.page_count
            kept = list(range((first % step), total, step))
            first += total  # so that short manuals have their share of pages, too
            if kept:
                document.select(kept)
                document.save(folder / f"{number:03}-{pdf.name}", garbage=3)


def measure(folder: Path) -> Run:
    """Ingest a folder's PDFs; runs in a process of its own."""
    settings = load_settings(store=str(folder / "store"), ocr="off")
    began = time.monotonic()
    watch = MemoryWatch(folder / "store")
    with ray_session(settings):
        report = run_ingest(settings, IngestRequest((str(folder / "pdfs"),)))
        spilled = _spilled_bytes()
    watch.close()
    return Run(
        pages=report.new_pages,
        pages_per_s=report.pages_per_s,
        seconds=time.monotonic() - began,
        spilled_bytes=spilled,
        busiest=next(iter(report.busy_shares())),
        samples=watch.samples,
    )


def _spilled_bytes() -> int:
    """Sum up what Ray has spilled to disk in this session."""
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    return int(get_memory_info_reply(state).store_stats.spilled_bytes_total)


def _run_of(fields: dict[str, object]) -> Run:
    samples = [Sample(**sample) for sample in fields.pop("samples")]  # type: ignore[attr-defined]
    return Run(**fields, samples=samples)  # type: ignore[arg-type]


def to_table(runs: list[Run]) -> Table:
    table = Table(title="Ingests of real pages, one after the other")
    for column in ("pages", "pages/s", "time", "peak", "peak once warm", "spilled", "busiest"):
        table.add_column(column, justify="right")
    for run in runs:
        table.add_row(
            f"{run.pages:,}",
            f"{run.pages_per_s:.2f}",
            f"{run.seconds:.0f} s",
            f"{run.peak_mib:,.0f} MiB",
            f"{run.warm_mib:,.0f} MiB",
            f"{run.spilled_bytes:,} B",
            run.busiest,
        )
    speeds, memory = [run.pages_per_s for run in runs], [run.warm_mib for run in runs]
    flat_speed = max(speeds) / min(speeds) - 1 <= BAR_SPEED
    flat_memory = max(memory) / min(memory) - 1 <= BAR_MEMORY
    nothing = not any(run.spilled_bytes for run in runs)
    met = {True: "met", False: "MISSED"}
    table.caption = (
        f"bars: pages/s within {BAR_SPEED:.0%}: {met[flat_speed]}; memory once warm within "
        f"{BAR_MEMORY:.0%}: {met[flat_memory]}; nothing spilled: {met[nothing]}"
    )
    return table


def plot(runs: list[Run]) -> None:
    """Draw the memory of each ingest over its time, and of the longest one by parts."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (of_all, of_parts) = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True)
    for run in runs:
        minutes = [sample.seconds / 60 for sample in run.samples]
        of_all.plot(minutes, [s.total / 1024 for s in run.samples], label=f"{run.pages:,} pages")
    longest = runs[-1].samples
    parts = sorted({part for sample in longest for part in sample.mib})
    minutes = [sample.seconds / 60 for sample in longest]
    heights = [[sample.mib.get(part, 0) / 1024 for sample in longest] for part in parts]
    of_parts.stackplot(minutes, heights, labels=parts)
    of_all.set(title="Memory of an ingest", xlabel="minutes", ylabel="GiB", ylim=0)
    of_parts.set(title=f"{runs[-1].pages:,} pages, by process", xlabel="minutes")
    for axes in (of_all, of_parts):
        axes.legend(loc="lower right")
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Path(sys.argv[1])))))
