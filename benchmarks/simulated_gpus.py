"""An ingest on 1, 2, 4 and 8 simulated GPUs; run by benchmarks/ingest.py.

Ray is told of GPUs that are not there. The forward of each embedding worker sleeps for as long as
an L4 computes a page with the 8B (10 TFLOP at 40 % of 121 TFLOP/s), and pages come rendered, so
that two cores are not the limit. All else is real: checking, Ray's object store, encoding, writing
into Milvus Lite, the ledger.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pymupdf
import ray
import torch
from rich.table import Table

from cluster.settings import load_settings
from jobs.ingest.context import IngestContext
from jobs.ingest.embed import EmbedPages
from jobs.ingest.pixels import pack_pixels
from jobs.ingest.report import IngestReport
from jobs.ingest.request import IngestRequest
from jobs.ingest.rows import Batch, PageWork, Shard, from_texts, to_batch
from jobs.ingest.run import run_ingest
from models.qwen3_vl.packing import PackedBatch

GPUS = (1, 2, 4, 8)
PAGE_S = 0.207
PAGES_PER_GPU = 160  # some 33 s of each
SHARD_PAGES = 20
LOGICAL_CPUS = 32
PIXELS = (832, 640, 3)
BAR = 0.95


class RenderedPages:
    """Takes the place of rendering: every page is the same picture, which is there already."""

    def __init__(self, context: IngestContext) -> None:
        self._pixels = pack_pixels(np.full(PIXELS, 255, np.uint8))

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        for row in from_texts(batch["row"]):
            if not isinstance(row, Shard):
                yield to_batch(row)
                continue
            for number in row.pages:
                work = PageWork(row.document, row.source, number, "page", row.todo, row.is_new)
                work.shape, work.width_px, work.height_px = PIXELS, PIXELS[1], PIXELS[0]
                work.text = f"Page {number} of a report about bridges"
                yield to_batch(work, pixels=self._pixels)


class SleepingEmbedPages(EmbedPages):
    """Embeds pages with a forward that sleeps for each picture."""

    def _load(self) -> Any:
        embedder = super()._load()
        dimension = embedder.spec.dimension

        def sleep(batch: PackedBatch, rows: np.ndarray | None = None) -> torch.Tensor:
            time.sleep(PAGE_S * len(batch.visuals))
            return torch.ones(len(batch.ends), dimension)

        embedder.forward = sleep
        return embedder


def measure_gpus(folder: Path) -> Table:
    """Ingest PAGES_PER_GPU pages for each simulated GPU, for every number of them."""
    with (
        patch("jobs.ingest.pipeline.RenderPages", RenderedPages),
        patch("jobs.ingest.pipeline.EmbedPages", SleepingEmbedPages),
    ):
        reports = {gpus: ingest(folder / str(gpus), gpus) for gpus in GPUS}
    table = Table(title=f"Simulated GPUs of {1 / PAGE_S:.1f} pages/s each")
    for column in ("GPUs", "pages", "pages/s", "efficiency", "busiest stage", "others"):
        table.add_column(column, justify="right")
    for gpus, report in reports.items():
        efficiency = report.pages_per_s * PAGE_S / gpus
        busiest, *others = (f"{name} {share:.0%}" for name, share in report.busy_shares().items())
        table.add_row(
            str(gpus),
            str(report.new_pages),
            f"{report.pages_per_s:.2f}",
            f"{efficiency:.3f}",
            busiest,
            ", ".join(others),
        )
        met = "met" if efficiency >= BAR else "MISSED"
        table.caption = f"bar: efficiency of {BAR} on {gpus} GPUs: {met}"
    return table


def ingest(folder: Path, gpus: int) -> IngestReport:
    """Ingest on a Ray of its own with so many GPUs."""
    path = folder / "pages.pdf"
    write_pdf(path, PAGES_PER_GPU * gpus)
    settings = load_settings(
        store=str(folder / "store"),
        precision="fp32",
        render_workers=2,
        shard_pages=SHARD_PAGES,
        ocr="off",
    )
    ray.init(
        address="local",
        num_cpus=LOGICAL_CPUS,
        num_gpus=gpus,
        include_dashboard=False,
        log_to_driver=False,
    )
    try:
        report = run_ingest(settings, IngestRequest((str(path),)))
    finally:
        ray.shutdown()
    if report.new_pages != PAGES_PER_GPU * gpus:
        raise SystemExit(f"{report.new_pages} pages came in: {report.file}")
    return report


def write_pdf(path: Path, pages: int) -> None:
    """Write a PDF of empty pages."""
    path.parent.mkdir(parents=True)
    with pymupdf.open() as document:
        for _ in range(pages):
            document.new_page()
        document.save(path)
