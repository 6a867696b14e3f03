"""An ingest over a million documents of which few changed: what the driver costs.

    python -m benchmarks.million [--sizes 10000 100000 1000000] [--latency 0.3]

The sources are real empty files, so that stamps are real; the store is a stub that knows a document
of each and answers after a server's latency: a million rows would say nothing about the driver.
One document in a thousand has another stamp. For each size a process of its own lists the folder,
finds what is unchanged and writes the report, as an ingest does before Ray starts; what is left
would go through the pipeline. Bar: 2,000 unchanged documents a second.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from rich.console import Console
from rich.table import Table

from cluster.core import Document
from cluster.ids import doc_id_of, mark
from cluster.settings import MIB, load_settings
from cluster.sources import list_sources, stamp_of
from jobs.ingest.ledger import Ledger
from jobs.ingest.report import IngestReport, ReportWriter
from jobs.ingest.request import IngestRequest
from jobs.ingest.todo import chunk_recipe
from jobs.ingest.unchanged import UnchangedFinder

BAR_PER_S = 2000
FOLDER_FILES = 1000
CHANGED = 1000  # one document in so many
SETTINGS = load_settings()


class StubStore:
    """Knows a document of every source, and answers late."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self.calls = 0

    def documents_of_sources(
        self, tenant: str, sources: Collection[str]
    ) -> dict[str, list[Document]]:
        self.calls += 1
        time.sleep(self._latency_s)
        return {source: [_document(tenant, source)] for source in sources}


def _document(tenant: str, source: str) -> Document:
    number = int(Path(source).stem)
    stamp = "another" if number % CHANGED == 0 else stamp_of(source)
    sha256 = hashlib.sha256(source.encode()).hexdigest()
    return Document(
        doc_id=doc_id_of(sha256),
        sha256=sha256,
        source=source,
        title=f"Document {number}",
        pages=1,
        status="indexed",
        tenant=tenant,
        marks=(mark("stamp", stamp), mark("chunks", chunk_recipe(SETTINGS))),
    )


def write_files(folder: Path, first: int, last: int) -> None:
    for number in range(first, last):
        path = folder / f"{number // FOLDER_FILES:05}" / f"{number}.pdf"
        if number % FOLDER_FILES == 0:
            path.parent.mkdir()
        path.touch()


def measure(folder: Path, latency_s: float) -> dict[str, Any]:
    """List a folder and find what is unchanged in it; runs in a process of its own."""
    store, before = StubStore(latency_s), _peak_mib()
    started = time.perf_counter()
    sources = list_sources([str(folder)])
    listed = time.perf_counter()
    report = IngestReport("quire", "")
    with tempfile.TemporaryDirectory(prefix="quire-benchmark-") as reports:
        writer = ReportWriter(report, Path(reports), "")
        ledger = Ledger(report, writer, sources, Mock())
        request = IngestRequest((str(folder),))
        finder = UnchangedFinder(SETTINGS, request, (), store)  # type: ignore[arg-type]
        for outcomes in finder.find(sources):
            for outcome in outcomes:
                ledger.record(outcome)
        left = len(ledger.open_sources)
        writer.close()
    ended = time.perf_counter()
    return {
        "documents": len(sources),
        "left": left,
        "list_s": listed - started,
        "find_s": ended - listed,
        "calls": store.calls,
        "mib": _peak_mib() - before,
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--latency", type=float, default=0.3, help="seconds of each call")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.latency)))
        return
    table = Table(title=f"Unchanged documents, one in {CHANGED:,} changed")
    for column in ("documents", "left", "to list", "to find", "documents/s", "calls", "memory"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory(prefix="quire-benchmark-") as name:
        written = 0
        for size in sorted(args.sizes):
            write_files(Path(name), written, size)
            written = size
            command = [sys.executable, "-m", "benchmarks.million", "--measure", name]
            command += ["--latency", str(args.latency)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            rate = found["documents"] / found["find_s"]
            table.add_row(
                f"{found['documents']:,}",
                f"{found['left']:,}",
                f"{found['list_s']:.1f} s",
                f"{found['find_s']:.1f} s",
                f"{rate:,.0f}",
                f"{found['calls']:,}",
                f"{found['mib']:,.0f} MiB",
            )
            table.caption = f"bar: {BAR_PER_S:,}/s: {'met' if rate >= BAR_PER_S else 'MISSED'}"
    Console().print(table)


if __name__ == "__main__":
    main()
