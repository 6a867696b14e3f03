"""Searches and an ingest behind a Milvus that makes every call wait; run by benchmarks/store.py.

The store is Milvus Lite behind a proxy (benchmarks/milvus_proxy.py), and Quire takes it for a
server. A search is counted in calls that had to wait for each other. The same one-page documents
are ingested with the latency and without it, one after the other, each into a collection of its
own.
"""

import tempfile
import time
from pathlib import Path

import pymupdf
from rich.console import Console
from rich.table import Table

from benchmarks.milvus_proxy import MilvusProxy, milvus_proxy, trips_in_sequence
from cluster.core import Filter, Hit, Mode
from cluster.settings import Settings, load_settings
from cluster.store.client import StoreAddress
from cluster.store.milvus import MilvusStore, open_store
from jobs.ingest.report import IngestReport
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest
from models.options import EmbedderOptions

BAR_TRIPS, BAR_TRIPS_RERANKED = 2, 3
BAR_SPEED = 0.8
MODES: tuple[Mode, ...] = ("dense", "text", "hybrid")


def measure_slow_store(console: Console, latency_s: float, documents: int) -> None:
    """Print what a latency costs a search and an ingest."""
    with tempfile.TemporaryDirectory(prefix="quire-benchmark-") as name:
        folder = Path(name)
        write_documents(folder / "pdfs", documents)
        lite = load_settings(store=str(folder / "lite"))
        with open_store(lite) as store, milvus_proxy(store.address.uri) as (proxy, uri):
            reports = {}
            for wait_s in (0.0, latency_s):
                proxy.latency_s = 0.0
                collection = f"after_{str(wait_s).replace('.', '_')}"
                fingerprint = EmbedderOptions.from_settings(lite, has_gpu=False).fingerprint("fp32")
                # Made beforehand: a server's indexes are not known to Milvus Lite.
                store.collection(collection).open_collection(fingerprint)
                settings = load_settings(
                    store=uri, collection=collection, shared_folder=str(folder / collection)
                )
                proxy.latency_s = wait_s
                reports[wait_s] = ingest(settings, folder / "pdfs")
            console.print(ingest_table(reports, latency_s))
            proxy.latency_s = latency_s
            slow = MilvusStore(StoreAddress(uri, collection))
            console.print(searches_table(slow, proxy, fingerprint.dimension))
            slow.close()


def write_documents(folder: Path, documents: int) -> None:
    """Write one-page documents that differ."""
    folder.mkdir()
    for number in range(documents):
        with pymupdf.open() as document:
            page = document.new_page()
            lines = "\n".join(f"Line {line} of receipt {number}: brake pads" for line in range(20))
            page.insert_text((72, 72), lines)
            document.save(folder / f"{number:05}.pdf")


def ingest(settings: Settings, folder: Path) -> IngestReport:
    """Ingest a folder. Raises SystemExit where not every document came in."""
    report = run_ingest(settings, IngestRequest((str(folder),)))
    if report.states["indexed"] != sum(report.states.values()):
        raise SystemExit(f"not every document came in: {dict(report.states)}")
    return report


def ingest_table(reports: dict[float, IngestReport], latency_s: float) -> Table:
    table = Table(title="Ingest of one-page documents")
    for column in ("latency", "documents", "pages/s", "ratio", "whole time"):
        table.add_column(column, justify="right")
    fastest = reports[0.0].pages_per_s
    for wait_s, report in reports.items():
        table.add_row(
            f"{wait_s:g} s",
            str(report.states["indexed"]),
            f"{report.pages_per_s:.2f}",
            f"{report.pages_per_s / fastest:.2f}",
            f"{report.seconds:.0f} s",
        )
    met = "met" if reports[latency_s].pages_per_s >= BAR_SPEED * fastest else "MISSED"
    table.caption = f"bar: at least {BAR_SPEED} of the speed without latency: {met}"
    return table


def searches_table(store: MilvusStore, proxy: MilvusProxy, dimension: int) -> Table:
    """Count the calls of searches that wait for each other."""
    table = Table(title=f"Searches, each call {proxy.latency_s:g} s late")
    for column in ("search", "calls", "in sequence", "time", "bar"):
        table.add_column(column, justify="left" if column == "search" else "right")
    vector = [1.0] + [0.0] * (dimension - 1)
    search(store, "hybrid", vector)  # from here on the collection is known
    for mode in MODES:
        for reranked in (False, True):
            with proxy.watched() as calls:
                started = time.perf_counter()
                hits = search(store, mode, vector)
                if reranked:
                    store.page_texts(hits)
                seconds = time.perf_counter() - started
            trips, bar = trips_in_sequence(calls), BAR_TRIPS_RERANKED if reranked else BAR_TRIPS
            name = f"{mode}, texts for a reranker" if reranked else mode
            met = "met" if trips <= bar else "MISSED"
            table.add_row(name, str(len(calls)), str(trips), f"{seconds:.2f} s", f"{bar}: {met}")
    return table


def search(store: MilvusStore, mode: Mode, vector: list[float]) -> list[Hit]:
    return store.search(
        vector=None if mode == "text" else vector,
        text="receipt of brake pads",
        wanted=Filter(tenant=""),
        mode=mode,
        top_k=10,
    )
