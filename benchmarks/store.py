"""The store: rows written and searches answered, on embedded Milvus Lite.

    python -m benchmarks.store [--pages 10000] [--searches 60] [--compare]
    python -m benchmarks.store --latency 0.3 [--documents 2000]

A collection is made as it is and as pymilvus does it, which waits for each index. Then a temporary
store is filled with synthetic pages through the public class: for each page one row of its whole
text and a row for each chunk, unit vectors of quire-tiny's dimension, words drawn by Zipf's law,
every fourth page Japanese. Every kind of search is asked in turn, so that all of them meet the same
neighbours on a busy machine. `--compare` writes the same pages with one writer and with two at
once, in turn. `--latency` asks the same of a Milvus that makes every call wait
(benchmarks/slow_store.py).
"""

import argparse
import hashlib
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from pymilvus import MilvusClient
from rich.console import Console
from rich.table import Table

from benchmarks.slow_store import measure_slow_store
from cluster.core import Document, Filter, Fingerprint, Mode, Row
from cluster.ids import doc_id_of
from cluster.settings import MIB, load_settings
from cluster.store import schema
from cluster.store.client import StoreAddress
from cluster.store.milvus import MilvusStore, open_store
from cluster.text.chunks import chunk_text
from models.options import EmbedderOptions

PAGES_PER_DOCUMENT = 20
PAGES_PER_WRITE = 8
TENANTS = 10
VOCABULARY = 30_000
WORDS_PER_PAGE = 330
CHARACTERS_PER_PAGE = 1_500
CHUNK_CHARS, CHUNK_OVERLAP = 1200, 200
COMPARED_PAGES = 1_000
COMPARED_ROUNDS = 3
BAR_HYBRID_P50_MS = 100
BAR_PAGES = 10_000

JAPANESE = [chr(code) for code in (*range(0x3042, 0x3094), *range(0x4E00, 0x4E00 + 2_000))]


@dataclass(frozen=True)
class Search:
    """One kind of search, and how long each of its runs took."""

    mode: Mode
    filtered: bool
    times_ms: list[float]

    @property
    def name(self) -> str:
        return f"{self.mode}, one tenant of {TENANTS}" if self.filtered else self.mode

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.times_ms, percent))


@lru_cache(maxsize=1)
def english_words() -> list[str]:
    """A made-up vocabulary; the more frequent a word, the shorter."""
    rng = random.Random(0)
    syllables = [a + b for a in "bcdfglmnprstv" for b in ("a", "e", "i", "o", "u", "er", "on")]
    return [
        "".join(rng.choices(syllables, k=1 + rank.bit_length() // 4)) for rank in range(VOCABULARY)
    ]


@lru_cache(maxsize=2)
def zipf_weights(size: int) -> list[float]:
    """Cumulative weights: the word of rank r is as frequent as 1 / r."""
    return list(accumulate(1 / rank for rank in range(1, size + 1)))


def page_text(rng: random.Random, *, japanese: bool) -> str:
    """The text of one page, about 2,000 characters of English or 1,500 of Japanese."""
    if japanese:
        weights = zipf_weights(len(JAPANESE))
        return "".join(rng.choices(JAPANESE, cum_weights=weights, k=CHARACTERS_PER_PAGE))
    weights = zipf_weights(VOCABULARY)
    return " ".join(rng.choices(english_words(), cum_weights=weights, k=WORDS_PER_PAGE))


def rows_of_page(number: int, dimension: int) -> list[Row]:
    """The page row and the chunk rows of one synthetic page; the same for the same number."""
    rng, vectors = random.Random(number), np.random.default_rng(number)
    folder = number // PAGES_PER_DOCUMENT
    sha256 = hashlib.sha256(str(folder).encode()).hexdigest()
    document = Document(
        doc_id=doc_id_of(sha256),
        sha256=sha256,
        source=f"/library/{folder}.pdf",
        title=f"Document {folder}",
        tenant=f"tenant {folder % TENANTS}",
    )
    text = page_text(rng, japanese=number % 4 == 0)
    texts = [text, *chunk_text(text, chars=CHUNK_CHARS, overlap=CHUNK_OVERLAP)]
    page = number % PAGES_PER_DOCUMENT + 1
    return [
        Row(document, page, chunk, part, unit_vector(vectors, dimension), 640, 832)
        for chunk, part in enumerate(texts)
    ]


def unit_vector(rng: np.random.Generator, dimension: int) -> np.ndarray:
    vector = rng.standard_normal(dimension, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def writes(first: int, pages: int, dimension: int) -> Iterator[list[Row]]:
    """Pages from `first` on, as many in one write as an ingest has in a unit of work."""
    numbers = iter(range(first, first + pages))
    while shard := list(islice(numbers, PAGES_PER_WRITE)):
        yield [row for number in shard for row in rows_of_page(number, dimension)]


def fill(store: MilvusStore, first: int, pages: int, dimension: int) -> tuple[int, float]:
    """Write pages; returns the rows, and the seconds without those of making them up."""
    count, seconds = 0, 0.0
    for rows in writes(first, pages, dimension):
        started = time.perf_counter()
        store.write_rows(rows)
        seconds += time.perf_counter() - started
        count += len(rows)
    return count, seconds


def measure_searches(store: MilvusStore, pages: int, runs: int, dimension: int) -> list[Search]:
    """Every kind of search `runs` times, in turn; queries are five words of some page."""
    modes: tuple[Mode, ...] = ("dense", "text", "hybrid")
    kinds = [Search(mode, filtered, []) for mode in modes for filtered in (False, True)]
    rng = random.Random(1)
    for number in range(runs + 1):
        asked = rows_of_page(rng.randrange(pages), dimension)[0]
        words = asked.text.split()
        text = " ".join(rng.sample(words, 5)) if len(words) > 5 else asked.text[100:112]
        for kind in kinds:
            wanted = Filter(tenant=asked.document.tenant) if kind.filtered else Filter()
            started = time.perf_counter()
            store.search(
                vector=None if kind.mode == "text" else asked.vector.tolist(),
                text=text,
                wanted=wanted,
                mode=kind.mode,
                top_k=10,
            )
            if number:  # the first run loads what was written
                kind.times_ms.append((time.perf_counter() - started) * 1000)
    return kinds


def compare_writers(store: MilvusStore, fingerprint: Fingerprint) -> dict[int, list[float]]:
    """Rows a second of one writer process and of two at once, for the same pages, in turn."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(COMPARED_ROUNDS):
        for writers, found in rates.items():
            target = store.collection(f"round_{turn}_{writers}")
            target.open_collection(fingerprint)
            found.append(_rate(target.address, writers, fingerprint.dimension))
    return rates


def _rate(address: StoreAddress, writers: int, dimension: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(writers)
    share = COMPARED_PAGES // writers
    with ProcessPoolExecutor(
        writers, mp_context=context, initializer=_join, initargs=(barrier,)
    ) as pool:
        jobs = [
            pool.submit(_write_share, address, number * share, share, dimension)
            for number in range(writers)
        ]
        reports = [job.result() for job in jobs]
    seconds = max(end for _, _, end in reports) - min(start for _, start, _ in reports)
    return sum(rows for rows, _, _ in reports) / seconds


_barrier: Barrier


def _join(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _write_share(
    address: StoreAddress, first: int, pages: int, dimension: int
) -> tuple[int, float, float]:
    """Rows written, and when this writer began and ended; the rows are made up before."""
    store = MilvusStore(address)
    prepared = list(writes(first, pages, dimension))
    _barrier.wait()
    started = time.monotonic()
    for rows in prepared:
        store.write_rows(rows)
    return sum(map(len, prepared)), started, time.monotonic()


def server_rss_bytes(folder: Path) -> int:
    """Resident memory of the embedded server."""
    state = json.loads((folder / "milvus" / "server.json").read_text())
    return int(psutil.Process(state["pid"]).memory_info().rss)


def disk_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def creation_seconds(store: MilvusStore, fingerprint: Fingerprint) -> tuple[float, float]:
    """Seconds to create a collection: as it is done, and as pymilvus does it, which waits."""
    began = time.perf_counter()
    store.collection("created").open_collection(fingerprint)
    created = time.perf_counter()
    client, layout = MilvusClient(uri=store.address.uri), store.client.layout
    parts = {
        "documents": schema.documents_schema(layout),
        "pages": schema.rows_schema(fingerprint.dimension, "", layout),
        "chunks": schema.rows_schema(fingerprint.dimension, "", layout),
    }
    for name, (fields, index) in parts.items():
        client.create_collection(f"waiting_{name}", schema=fields, index_params=index)
    waited = time.perf_counter() - created
    for name in parts:
        client.drop_collection(f"waiting_{name}")
    client.close()
    return created - began, waited


def searches_table(kinds: list[Search], pages: int) -> Table:
    table = Table(title=f"Searches over {pages:,} pages, top 10")
    for name in ("search", "p50 ms", "p95 ms", "ratio of p50 to dense"):
        table.add_column(name, justify="left" if name == "search" else "right")
    dense = next(kind for kind in kinds if kind.mode == "dense" and not kind.filtered)
    for kind in kinds:
        p50, p95 = kind.percentile_ms(50), kind.percentile_ms(95)
        ratio = p50 / dense.percentile_ms(50)
        table.add_row(kind.name, f"{p50:.1f}", f"{p95:.1f}", f"{ratio:.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=BAR_PAGES, help="pages in the store")
    parser.add_argument("--searches", type=int, default=60, help="runs of each kind of search")
    parser.add_argument("--compare", action="store_true", help="one writer against two")
    parser.add_argument("--latency", type=float, help="seconds that every call of Milvus waits")
    parser.add_argument("--documents", type=int, default=2000, help="ingested behind the latency")
    args = parser.parse_args()
    console = Console()
    if args.latency is not None:
        measure_slow_store(console, args.latency, args.documents)
        return
    fingerprint = EmbedderOptions().fingerprint("fp32")
    with tempfile.TemporaryDirectory(prefix="quire-benchmark-") as name:
        folder = Path(name)
        with open_store(load_settings(store=name)) as store:
            store.open_collection(fingerprint)
            seconds, waited = creation_seconds(store, fingerprint)
            console.print(
                f"a collection is made in {seconds:.3f} s; waiting for each index {waited:.1f} s"
            )
            rows, seconds = fill(store, 0, args.pages, fingerprint.dimension)
            console.print(
                f"{rows:,} rows of {fingerprint.dimension} dimensions written at "
                f"{rows / seconds:,.0f} rows/s; {disk_bytes(folder) / MIB:,.0f} MiB on disk"
            )
            kinds = measure_searches(store, args.pages, args.searches, fingerprint.dimension)
            console.print(searches_table(kinds, args.pages))
            console.print(f"server: {server_rss_bytes(folder) / MIB:,.0f} MiB resident")
            hybrid = next(kind for kind in kinds if kind.mode == "hybrid" and not kind.filtered)
            met = "met" if hybrid.percentile_ms(50) <= BAR_HYBRID_P50_MS else "MISSED"
            console.print(
                f"bar: hybrid p50 ≤ {BAR_HYBRID_P50_MS} ms over {args.pages:,} pages: {met}"
            )
            if args.compare:
                rates = {
                    n: median(found) for n, found in compare_writers(store, fingerprint).items()
                }
                console.print(
                    f"writers: one {rates[1]:,.0f} rows/s, two at once {rates[2]:,.0f} rows/s, "
                    f"ratio {rates[2] / rates[1]:.2f}"
                )


if __name__ == "__main__":
    main()
