"""Ingest against a plain script, at growing sizes, and on simulated GPUs.

    python -m benchmarks.ingest [--only plain|memory|gpus] [--pages 600] [--sizes 1000 3000 9000]

plain: `quire ingest` beside a plain multiprocessing script in one run: a process for each core
renders its pages with PyMuPDF, cuts their text and embeds page and chunks with the same model. The
script stores nothing; Quire also checks, keeps pictures and words, and writes into Milvus Lite.
Start-ups are left out on both sides: the script counts from when every process has loaded its
model, Quire from the first page embedded to the last one written.
memory: benchmarks/flat_memory.py. gpus: benchmarks/simulated_gpus.py.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pymupdf
from rich.console import Console
from rich.table import Table

from benchmarks.corpus import held_out_pdfs
from benchmarks.flat_memory import EVERY, measure_memory
from benchmarks.simulated_gpus import measure_gpus
from cluster.hardware import cpu_cores
from cluster.runtime import ray_session
from cluster.settings import Settings, load_settings
from cluster.text.chunks import chunk_text
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest
from models.images import grid_size
from models.inputs import MultimodalInput
from models.options import EmbedderOptions

BAR = 0.95
PAGES_TOGETHER = 4
POINTS_PER_INCH = 72
DPI = 200

_embedder: Any = None  # of a process of the plain script


def measure_plain(cache: Path, pages: int, rounds: int) -> Table:
    """Run the script and an ingest in turn over the same pages."""
    pdfs = held_out_pdfs(cache, pages)
    rates: dict[str, list[float]] = {"plain script": [], "quire ingest": []}
    total = 0
    for _ in range(rounds):
        total, rate = plain_rate(pdfs)
        rates["plain script"].append(rate)
        with tempfile.TemporaryDirectory(prefix="quire-benchmark-") as folder:
            rates["quire ingest"].append(ingest_rate(folder, pdfs))
    table = Table(title=f"{total} real pages on {cpu_cores()} cores, in turn")
    for column in ("", "pages/s", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    fastest = median(rates["plain script"])
    for name, measured in rates.items():
        runs = " ".join(f"{rate:.2f}" for rate in measured)
        table.add_row(name, runs, f"{median(measured) / fastest:.3f}")
    met = "met" if median(rates["quire ingest"]) >= BAR * fastest else "MISSED"
    table.caption = f"bar: {BAR} of the script: {met}"
    return table


def plain_rate(pdfs: list[Path]) -> tuple[int, float]:
    """Return pages, and pages a second, of the plain script."""
    cores = cpu_cores()
    context = multiprocessing.get_context("spawn")
    loaded = context.Barrier(cores + 1)
    settings = load_settings()
    with context.Pool(cores, _load, (loaded, settings)) as pool:
        loaded.wait()
        began = time.perf_counter()
        work = [
            (str(pdf), first)
            for pdf in pdfs
            for first in range(0, _page_count(pdf), PAGES_TOGETHER)
        ]
        done = sum(pool.imap_unordered(_embed_pages, work))
        return done, done / (time.perf_counter() - began)


def _page_count(pdf: Path) -> int:
    with pymupdf.open(pdf) as document:
        return int(document.page_count)


def _load(loaded: Barrier, settings: Settings) -> None:
    from models.engine.device import use_threads
    from models.qwen3_vl.embedder import Qwen3VLEmbedder

    global _embedder
    use_threads(1)
    _embedder = Qwen3VLEmbedder(EmbedderOptions.from_settings(settings, has_gpu=False))
    _embedder.embed([MultimodalInput(text="warm")])
    loaded.wait()


def _embed_pages(work: tuple[str, int]) -> int:
    """Render and embed some pages of a PDF → how many."""
    path, first = work
    spec = _embedder.spec
    settings = load_settings()
    inputs = []
    with pymupdf.open(path) as document:
        numbers = range(first, min(first + PAGES_TOGETHER, document.page_count))
        for number in numbers:
            page = document[number]
            size = [round(side / POINTS_PER_INCH * DPI) for side in page.rect[2:]]
            width, height = grid_size(
                *size, min_pixels=spec.min_pixels, max_pixels=_embedder.fingerprint.max_pixels
            )
            scale = pymupdf.Matrix(width / page.rect.width, height / page.rect.height)
            pixmap = page.get_pixmap(matrix=scale, alpha=False)
            image = np.frombuffer(pixmap.samples, np.uint8).reshape(pixmap.height, pixmap.width, 3)
            text = page.get_text()
            inputs.append(MultimodalInput(text=text[: spec.page_chars], images=(image,)))
            chunks = chunk_text(text, chars=settings.chunk_chars, overlap=settings.chunk_overlap)
            inputs += [MultimodalInput(text=chunk) for chunk in chunks]
    _embedder.embed(inputs)
    return len(numbers)


def ingest_rate(folder: str, pdfs: list[Path]) -> float:
    """Return pages a second of an ingest."""
    settings = load_settings(store=folder, ocr="off")
    with ray_session(settings):
        report = run_ingest(settings, IngestRequest(tuple(map(str, pdfs))))
    return report.pages_per_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=("plain", "memory", "gpus"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/tiny"), help="downloads")
    parser.add_argument("--pages", type=int, default=600, help="of the plain script, about")
    parser.add_argument("--rounds", type=int, default=1, help="of the plain script and Quire")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(EVERY), choices=EVERY)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quire-benchmark-") as name:
        parts: dict[str, Callable[[], Table]] = {
            "plain": lambda: measure_plain(args.cache, args.pages, args.rounds),
            "memory": lambda: measure_memory(args.cache, args.sizes),
            "gpus": lambda: measure_gpus(Path(name)),
        }
        for part, measure in parts.items():
            if args.only in (None, part):
                Console().print(measure())


if __name__ == "__main__":
    main()
