"""How long an ingest takes until its first page, and where nothing is to be done.

    python -m benchmarks.first_page [--rounds 2]

Commands of their own, loaded from nothing, over made-up PDFs of one page each:
a few pages: wall time of `quire ingest` of one page, all of it (bar: 8 s);
unchanged: wall time of `quire ingest` of 93 documents that are in the index (bar: 3 s);
many pages: seconds of `quire ingest` of 60 pages until the first is embedded, on a Ray of its own,
beside `ray.init` and a job of Ray Data that does nothing, in the same run (bar: 1.3 of that).
Where PYTHONDONTWRITEBYTECODE is set, every process compiles what it imports.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pymupdf
from rich.console import Console
from rich.table import Table

BAR_FEW_S, BAR_UNCHANGED_S, BAR_RAY = 8.0, 3.0, 1.3
UNCHANGED, MANY = 93, 60
EMPTY_JOB = """
import ray
from cluster.runtime import ray_session
from cluster.settings import load_settings
with ray_session(load_settings()):
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.range(1).map_batches(lambda batch: batch).materialize()
"""


def write_documents(folder: Path, count: int) -> str:
    """Write one-page PDFs that differ."""
    folder.mkdir()
    for number in range(count):
        with pymupdf.open() as document:
            document.new_page().insert_text((72, 72), f"Receipt {number} for brake pads")
            document.save(folder / f"{number}.pdf")
    return str(folder)


def run(*command: str) -> tuple[float, str]:
    """Run a command → seconds, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - started, done.stdout


def ingest(folder: str, store: Path) -> tuple[float, dict[str, float]]:
    """Run `quire ingest` → seconds in all, and its report."""
    command = [sys.executable, "-m", "quire", "ingest", folder, "--store", str(store), "--json"]
    seconds, printed = run(*command, "--ocr", "off")
    return seconds, json.loads(printed)


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Measure everything `rounds` times, in turn."""
    few = write_documents(folder / "few", 1)
    unchanged = write_documents(folder / "unchanged", UNCHANGED)
    many = write_documents(folder / "many", MANY)
    ingest(unchanged, folder / "known")  # also writes bytecode
    times: dict[str, list[float]] = {"few": [], "unchanged": [], "empty": [], "many": []}
    for number in range(rounds):
        times["few"].append(ingest(few, folder / f"few-{number}")[0])
        times["unchanged"].append(ingest(unchanged, folder / "known")[0])
        times["empty"].append(run(sys.executable, "-c", EMPTY_JOB)[0])
        seconds, report = ingest(many, folder / f"many-{number}")
        times["many"].append(seconds - report["working_seconds"])
    return times


def to_table(times: dict[str, list[float]]) -> Table:
    table = Table("what", "seconds", "bar", title="until the first page")

    def add(what: str, measured: Sequence[float], bar_s: float) -> None:
        met = "met" if min(measured) <= bar_s else "MISSED"
        runs = " ".join(f"{seconds:.1f}" for seconds in measured)
        table.add_row(what, runs, f"{bar_s:.1f} s: {met}")

    add("quire ingest of one page, all of it", times["few"], BAR_FEW_S)
    add(f"quire ingest of {UNCHANGED} unchanged documents", times["unchanged"], BAR_UNCHANGED_S)
    empty = min(times["empty"])
    table.add_row("ray.init and an empty job", " ".join(f"{s:.1f}" for s in times["empty"]), "")
    add(f"quire ingest of {MANY} pages, before the first", times["many"], BAR_RAY * empty)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quire-benchmark-") as name:
        Console().print(to_table(measure(Path(name), args.rounds)))


if __name__ == "__main__":
    main()
