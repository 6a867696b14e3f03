"""How long a GPU waits for the host: ingest and reranking, with a forward that sleeps.

    python -m benchmarks.gpu_wait [--only ingest|reranking|drawing] [--rounds 3]

No GPU is needed: the forward of quire-tiny and its reranker sleeps for as long as a GPU would
compute, and nothing else is made up. Pages are drawn by the real renderer, go through Ray's object
store, and are encoded as always; candidates are read from files, decoded and encoded.

Ingest: one embedding worker, 16 pages of 640 × 832 px a call, each with its text in chunks; an L4
takes 70 ms a page with the 2B (3.35 TFLOP at 40 % of 121 TFLOP/s), an H100 8.5 ms; chunks count as
nothing, which leaves the host less time. Before: one call after the other.

Reranking: 20 candidates on 1,024 visual tokens at most; an H100 takes 17 ms each. Before: pictures
read one after the other, decoded and resized on one thread, and all scored when the last is ready.

Busy is the share of the time between the first forward's begin and the last one's end, or between a
search's begin and its end, in which a forward slept. Variants take turns in one run.
"""

import argparse
import io
import json
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, cast

import numpy as np
import pymupdf
import ray
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.store import page_text
from cluster.core import Document
from cluster.ids import doc_id_of
from cluster.pages.files import PageFiles, PageKey
from cluster.runtime import ray_session
from cluster.settings import Settings, load_settings
from cluster.store.client import StoreAddress
from jobs.ingest.context import IngestContext
from jobs.ingest.embed import EmbedPages
from jobs.ingest.gpu_shares import GpuShares
from jobs.ingest.pipeline import EMBED_CALLS, EMBED_PAGES
from jobs.ingest.pixels import pack_pixels
from jobs.ingest.rows import Batch, PageWork, to_batch
from jobs.ingest.watch_actor import start_watch
from jobs.ray_data import batches, stage
from jobs.rendering.client import Renderer, RenderLimits, RenderTarget
from jobs.rendering.process import fit
from jobs.rendering.readers import open_reader
from models.images import grid_size
from models.inputs import MultimodalInput
from models.options import EmbedderOptions, RerankerOptions
from models.qwen3_vl.packing import PackedBatch
from models.qwen3_vl.reranker import Qwen3VLReranker
from models.qwen3_vl.visuals import VisualBudget
from models.registry import MAX_PIXELS, registry

PAGE_S = {"L4": 0.070, "H100": 0.0085}
CANDIDATE_S = 0.017  # H100: 6.7 TFLOP of a page of 1,024 visual tokens
GRID_PIXELS = 640 * 832
PAGES = 24  # drawn; an ingest has them again and again
CALLS = 12
CANDIDATES = 20
SEARCHES = 8
KEEP_PIXELS = 2**20
QUERY = MultimodalInput(text="how are the bridges of the northern line inspected?")


@dataclass
class Sleeper:
    """A forward that sleeps for each picture of a batch, and notes from when to when."""

    page_s: float
    dimension: int
    slept: list[tuple[float, float]]
    file: Path | None = None

    def __call__(self, batch: PackedBatch, rows: np.ndarray | None = None) -> torch.Tensor:
        began = time.time()
        time.sleep(self.page_s * len(batch.visuals))
        if batch.visuals:
            self.slept.append((began, time.time()))
            if self.file:
                with self.file.open("a") as file:
                    file.write(json.dumps(self.slept[-1]) + "\n")
        return torch.ones(len(batch.ends), self.dimension)


class SleepingEmbedPages(EmbedPages):
    """The stage of an ingest with a forward that sleeps."""

    def _load(self) -> Any:
        embedder = super()._load()
        wanted = json.loads(self.context.settings.instruction)
        width = embedder.spec.dimension
        embedder.forward = Sleeper(wanted["page_s"], width, [], Path(wanted["file"]))
        return embedder


def busy(slept: list[tuple[float, float]], began: float, ended: float) -> float:
    return sum(end - begin for begin, end in slept) / (ended - began)


def write_pages(path: Path, pages: int = PAGES) -> str:
    """Write a PDF of dense pages of English."""
    rng = random.Random(0)
    document = pymupdf.open()
    for _ in range(pages):
        page = document.new_page(width=640, height=832)
        page.insert_textbox((40, 40, 600, 800), page_text(rng, japanese=False), fontsize=11)
    document.save(path)
    return str(path)


def rendered_rows(path: str) -> list[dict[str, Any]]:
    """Draw the pages, and give CALLS calls of them as the rows that the embedding stage gets."""
    sha256 = "0" * 64
    document = Document(doc_id_of(sha256), sha256, path, "Bridges")
    target = RenderTarget(registry.find_spec("quire-tiny").min_pixels, GRID_PIXELS, KEEP_PIXELS)
    with Renderer(RenderLimits()) as renderer:
        drawn = [renderer.render(path, number, target) for number in range(1, PAGES + 1)]
    rows = []
    for number in range(CALLS * EMBED_PAGES):  # each page is one of its own for the watch
        page = drawn[number % PAGES]
        work = PageWork(document, path, number + 1, "page", PAGES, True, text=page.text)
        work.shape = page.pixels.shape
        batch = to_batch(work, pixels=pack_pixels(page.pixels))
        rows.append({column: values[0] for column, values in batch.items()})
    return rows


def measure_ingest(
    card: Literal["L4", "H100"], rows: list[dict[str, Any]], calls: int, folder: Path
) -> float:
    """Embed pages in one worker → the share of the time that its forward slept."""
    file = folder / f"{card}-{calls}-{time.time_ns()}.jsonl"
    # The one setting that travels to the embedder and changes nothing else of the measurement.
    instruction = json.dumps({"page_s": PAGE_S[card], "file": str(file)})
    settings = load_settings(store=str(folder), instruction=instruction)
    context = _context(settings)

    def build() -> Any:
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
        return stage(
            dataset,
            SleepingEmbedPages,
            context,
            workers=1,
            batch_size=EMBED_PAGES,
            calls=calls,
        )

    embedded = sum(_count(batch) for batch in batches(build))
    if embedded != len(rows):
        raise RuntimeError(f"{embedded} of {len(rows)} pages were embedded")
    slept = [tuple(json.loads(line)) for line in file.read_text().splitlines()]
    return busy(slept, slept[0][0], slept[-1][1])


def _count(batch: Batch) -> int:
    return sum(bool(vectors) for vectors in batch["vectors"])


def _context(settings: Settings) -> IngestContext:
    options = EmbedderOptions(precision="fp32", max_pixels=GRID_PIXELS)
    return IngestContext(
        settings=settings,
        ingest_id="benchmark",
        address=StoreAddress("", ""),  # this stage asks no store
        fingerprint=options.fingerprint("fp32"),
        options=options,
        target=RenderTarget(4096, GRID_PIXELS),
        page_chars=0,  # of Qwen's own checkpoints
        chunk_vectors=True,
        tenant="",
        tags=(),
        metadata={},
        reindex=False,
        is_job=False,
        threads=1,
        embed_calls=1,
        gpu=GpuShares(1),
        readings=(),
        tenant_mark="",
        watch=start_watch(settings.worker_timeout_s),
    )


class Reranking:
    """Searches over candidates whose pictures lie in files, with both ways to rerank them."""

    def __init__(self, path: str, folder: Path) -> None:
        self.reranker = Qwen3VLReranker(RerankerOptions(precision="fp32"))
        self.reranker.encoder._budget = VisualBudget(4096, MAX_PIXELS, 10_240)  # of the 2B
        self.slept: list[tuple[float, float]] = []
        self.reranker.forward = Sleeper(CANDIDATE_S, self.reranker.spec.dimension, self.slept)
        self.now = PageFiles(str(folder / "now"), "pages")
        self.former = PageFiles(str(folder / "former"), "pages")
        self.keys = [PageKey("", doc_id_of("0" * 64), page) for page in range(1, CANDIDATES + 1)]
        target = RenderTarget(4096, MAX_PIXELS, KEEP_PIXELS)
        with Renderer(RenderLimits()) as renderer:
            for key in self.keys:
                drawn = renderer.render(path, key.page, target)
                self.now.put(*key, drawn.jpeg)
                self.former.put(*key, _as_it_was(path, key.page))

    def before(self) -> None:
        pages = [MultimodalInput(images=(self.former.get(*key),)) for key in self.keys]
        groups = [self.reranker.encode(QUERY, [page])[0] for page in pages]
        self.reranker.score_encoded(groups)

    def after(self) -> None:
        pictures = self.now.get_all(self.keys)
        pages = [MultimodalInput(images=(each,)) for each in pictures if each is not None]
        self.reranker.score(QUERY, pages)

    def measure(self, search: Callable[[], None], at_once: int) -> tuple[float, float]:
        """Busy share and median seconds of searches, `at_once` of them side by side."""
        self.slept.clear()

        def timed(_: int) -> float:
            began = time.perf_counter()
            search()
            return time.perf_counter() - began

        began = time.time()
        with ThreadPoolExecutor(at_once) as clients:
            seconds = list(clients.map(timed, range(SEARCHES)))
        return busy(self.slept, began, time.time()), median(seconds)


def _as_it_was(path: str, page: int) -> bytes:
    """The picture of a page at `keep_pixels`, not on the grid."""
    document = pymupdf.open(path)
    drawn = document[page - 1]
    width, height = fit(drawn.rect.width * 2.5, drawn.rect.height * 2.5, KEEP_PIXELS)
    scale = pymupdf.Matrix(width / drawn.rect.width, height / drawn.rect.height)
    pixels = drawn.get_pixmap(matrix=scale, alpha=False)
    file = io.BytesIO()
    picture = Image.frombytes("RGB", (pixels.width, pixels.height), pixels.samples)
    picture.save(file, "JPEG", quality=87)
    return file.getvalue()


def measure_drawing(path: str) -> tuple[float, float]:
    """Median seconds of a page drawn for the model and once more for people, and drawn once."""
    twice, once = [], []
    reader = open_reader(path, RenderLimits())
    for number in range(1, PAGES + 1):
        page = reader.page(number)
        size = page.size_px(200)
        began = time.perf_counter()
        page.draw(*grid_size(*size, min_pixels=4096, max_pixels=MAX_PIXELS))
        drawn = time.perf_counter()
        page.draw(*fit(*size, KEEP_PIXELS))
        twice.append(time.perf_counter() - began)
        once.append(drawn - began)
    return median(twice), median(once)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=("ingest", "reranking", "drawing"))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    table = Table("what", "before", "now", title="share of the time that the forward is busy")
    with tempfile.TemporaryDirectory(prefix="gpu-wait-") as name:
        folder = Path(name)
        path = write_pages(folder / "pages.pdf")
        if args.only in (None, "ingest"):
            _ingest(table, path, folder, args.rounds)
        if args.only in (None, "reranking"):
            _reranking(table, path, folder, args.rounds)
        if args.only in (None, "drawing"):
            runs = [measure_drawing(path) for _ in range(args.rounds)]
            twice, once = (median(times) * 1000 for times in zip(*runs, strict=True))
            table.add_row("drawing a page, ms", f"{twice:.1f}", f"{once:.1f}")
    Console().print(table)


def _ingest(table: Table, path: str, folder: Path, rounds: int) -> None:
    rows = rendered_rows(path)
    with ray_session(load_settings(store=str(folder))):
        for card in PAGE_S:
            kind = cast(Literal["L4", "H100"], card)
            shares = [
                [measure_ingest(kind, rows, calls, folder) for calls in (1, EMBED_CALLS)]
                for _ in range(rounds)
            ]
            before, now = (median(each) for each in zip(*shares, strict=True))
            table.add_row(f"ingest, {card}", f"{before:.3f}", f"{now:.3f}")


def _reranking(table: Table, path: str, folder: Path, rounds: int) -> None:
    reranking = Reranking(path, folder)
    for at_once in (1, 2):
        runs = [
            [reranking.measure(way, at_once) for way in (reranking.before, reranking.after)]
            for _ in range(rounds)
        ]
        before, now = zip(*runs, strict=True)
        table.add_row(f"reranking {CANDIDATES}, {at_once} at once", *map(_shown, (before, now)))


def _shown(runs: tuple[tuple[float, float], ...]) -> str:
    share, seconds = (median(each) for each in zip(*runs, strict=True))
    return f"{share:.3f} ({seconds:.2f} s)"


if __name__ == "__main__":
    main()
