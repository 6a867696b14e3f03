"""Build a training set for the quality predictor: pages, damaged on purpose, read by an engine.

One Ray Data job: documents → LabelDocument → rows in a LabelStore. Rows that are there already are
not made again, so an interrupted job goes on where it stopped. Every variant follows from the
document, the page and the seed, and its row says what was done to the page.
"""

import hashlib
import io
import json
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
from PIL import Image

from cluster.errors import InvalidInput, UnreadableDocument
from cluster.hardware import cpu_cores
from cluster.ids import doc_id_of, sha256_of
from cluster.runtime import ray_session
from cluster.settings import Settings
from cluster.sources import list_sources
from jobs.ocr_quality.accuracy import accuracy, comparable
from jobs.ocr_quality.degrade import as_fields, degrade, plan_effects
from jobs.ocr_quality.engines import OcrEngine
from jobs.ocr_quality.label_store import LabelStore, TrainingRow
from jobs.ocr_quality.transcripts import Transcript, transcript_of
from jobs.progress import ProgressView, progress_view
from jobs.ray_data import batches, stage
from jobs.rendering.client import RenderLimits
from jobs.rendering.ocr import OCR_DPI, OcrFailed
from jobs.rendering.pages import PageReader
from models.ocr_quality.predictor import to_gray

Batch = dict[str, Any]
ROWS_PER_FILE = 100
MIN_TRUTH_CHARS = 20  # a page with less says little about an engine, and its CER jumps


@dataclass(frozen=True)
class LabelRequest:
    """What to label.

    `variants` damaged copies are made of each page, beside the page as it is. Of each document at
    most `pages` are taken, evenly spread; 0 takes all of them.
    """

    paths: tuple[str, ...]
    into: Path
    variants: int = 5
    pages: int = 3
    seed: int = 0


@dataclass
class LabelReport:
    """What a labelling did; also what its progress display shows."""

    into: str
    documents: int = 0
    documents_done: int = 0
    pages: int = 0  # variants of pages, those that were there already left out
    pages_done: int = 0
    failures: int = 0
    began: float = 0.0
    seconds: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)  # source → why

    @property
    def documents_opened(self) -> int:
        return self.documents_done

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, indent=1)


@dataclass(frozen=True)
class LabelContext:
    """What a worker has to know."""

    request: LabelRequest
    engine: OcrEngine
    engine_version: str
    limits: RenderLimits
    max_document_bytes: int
    done: frozenset[str]


class LabelDocument:
    """A document → one row for each variant of its pages, or the reason why there is none."""

    def __init__(self, context: LabelContext) -> None:
        self.context = context
        self.reader = PageReader(context.limits)

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        for source in map(str, batch["source"]):
            rows, problem = [], ""
            try:
                rows = list(self._document(source))
            except (UnreadableDocument, OSError) as error:
                problem = str(error)
            yield {
                "source": [source],
                "problem": [problem],
                "rows": [[json.dumps(row) for row, _ in rows]],
                "images": [[image for _, image in rows]],
            }

    def _document(self, source: str) -> Iterator[tuple[TrainingRow, bytes]]:
        if Path(source).stat().st_size > self.context.max_document_bytes:
            raise UnreadableDocument("too_large", "it is over max_document_bytes")
        transcript, document = transcript_of(source), doc_id_of(sha256_of(source))
        count = self.reader.pages(source)
        labelled = False
        for page in spread(count, self.context.request.pages):
            todo = [
                variant
                for variant in range(self.context.request.variants + 1)
                if self._id(document, page, variant, transcript) not in self.context.done
            ]
            labelled |= len(todo) <= self.context.request.variants
            for row, image in self._page(source, document, page, count, transcript, todo):
                labelled = True
                yield row, image
        if not labelled:
            raise UnreadableDocument(
                "no_truth",
                f"no page has {MIN_TRUTH_CHARS} characters of truth: add a text layer, or a "
                f"transcript {Path(source).stem}.txt",
            )

    def _page(
        self,
        source: str,
        document: str,
        page: int,
        pages: int,
        transcript: Transcript,
        variants: list[int],
    ) -> Iterator[tuple[TrainingRow, bytes]]:
        if not variants:
            return
        pixels = self.reader.read(source, page, pages=pages)
        truth = transcript.truth(page, pixels.text)
        if len(comparable(truth)) < MIN_TRUTH_CHARS:
            return
        gray = to_gray(pixels.rgb)
        for variant in variants:
            identity = {
                "id": self._id(document, page, variant, transcript),
                "document": document,
                "source": source,
                "page": page,
                "variant": variant,
                "truth": "transcript" if transcript.pages else "text layer",
            }
            with suppress(OcrFailed):  # too slow, as a rule: not labelled, so tried again next time
                yield self._variant(identity, gray, truth, dict(transcript.fields))

    def _variant(
        self, identity: TrainingRow, gray: np.ndarray, truth: str, fields: dict[str, str]
    ) -> tuple[TrainingRow, bytes]:
        context = self.context
        place = f"{context.request.seed}:{identity['document']}:{identity['page']}"
        seed = seed_of(f"{place}:{identity['variant']}") if identity["variant"] else 0
        effects = plan_effects(seed) if identity["variant"] else []
        seen = degrade(gray, effects, seed) if effects else gray
        started = time.perf_counter()
        text = context.engine.read(seen, OCR_DPI)
        seconds = time.perf_counter() - started
        rates = accuracy(text, truth, fields)
        row = identity | {
            "seed": seed,
            "effects": json.dumps(as_fields(effects)),
            "engine": context.engine.name,
            "engine_version": context.engine_version,
            "languages": context.engine.languages,
            "dpi": OCR_DPI,
            "truth_chars": len(comparable(truth)),
            "cer": rates.cer,
            "wer": rates.wer,
            "recall": rates.recall,
            "field_accuracy": rates.fields,
            "width": seen.shape[1],
            "height": seen.shape[0],
            "ocr_s": seconds,
        }
        return row, _png(seen)

    def _id(self, document: str, page: int, variant: int, transcript: Transcript) -> str:
        context = self.context
        seed = context.request.seed if variant else 0
        engine = (
            f"{context.engine.name} {context.engine_version} {context.engine.languages} {OCR_DPI}"
        )
        text = f"{document}:{page}:{variant}:{seed}:{engine}:{transcript.stamp}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def label_pages(
    settings: Settings,
    request: LabelRequest,
    engine: OcrEngine,
    view: ProgressView | None = None,
) -> LabelReport:
    """Label pages into a folder; every document ends as rows there, or in `skipped`.

    Raises NotFound for a path without anything, InvalidInput for numbers that make no sense or
    documents that are not local files.
    """
    if request.variants < 0 or request.pages < 0:
        raise InvalidInput("variants and pages must not be negative")
    sources = list_sources(request.paths)
    if any("://" in source for source in sources):
        raise InvalidInput("labels are made of local files: copy the documents first")
    random.Random(request.seed).shuffle(sources)  # interrupted, the rows are a fair sample
    store = LabelStore(request.into)
    context = LabelContext(
        request,
        engine,
        engine.version,
        RenderLimits.from_settings(settings),
        settings.max_document_bytes,
        frozenset(store.ids()),
    )
    report = LabelReport(str(request.into), documents=len(sources), began=time.time())
    started = time.perf_counter()
    with view or progress_view("labelling") as shown, ray_session(settings):
        shown.update(report)
        waiting: list[TrainingRow] = []
        try:
            for source, problem, rows in _outcomes(sources, context, settings):
                _count(report, source, problem, rows)
                waiting += rows
                if len(waiting) >= ROWS_PER_FILE:
                    store.add(waiting)
                    waiting = []
                shown.update(report)
        finally:
            store.add(waiting)
    report.seconds = time.perf_counter() - started
    return report


def spread(count: int, most: int) -> list[int]:
    """At most so many page numbers (from 1) of a document, evenly spread; all of them for 0."""
    if most == 0 or count <= most:
        return list(range(1, count + 1))
    return [1 + (2 * number + 1) * count // (2 * most) for number in range(most)]


def seed_of(text: str) -> int:
    """Return a seed that any machine derives from the same words: 0 to 2^62."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2


def _count(report: LabelReport, source: str, problem: str, rows: list[TrainingRow]) -> None:
    report.documents_done += 1
    report.pages += len(rows)
    report.pages_done += len(rows)
    if problem:
        report.failures += 1
        report.skipped[source] = problem


def _outcomes(
    sources: list[str], context: LabelContext, settings: Settings
) -> Iterator[tuple[str, str, list[TrainingRow]]]:
    """Run the job; yields (source, problem, rows) as documents end."""

    def build() -> Any:
        dataset = ray.data.from_items(
            [{"source": source} for source in sources], override_num_blocks=max(1, len(sources))
        )
        workers = settings.workers or cpu_cores()
        # Ray gives each a thread, and so the engine that it starts.
        return stage(dataset, LabelDocument, context, workers=workers, batch_size=1, num_cpus=1)

    for batch in batches(build):
        columns = (batch["source"], batch["problem"], batch["rows"], batch["images"])
        for source, problem, rows, images in zip(*columns, strict=True):
            labelled = [
                json.loads(str(row)) | {"image": bytes(image)}
                for row, image in zip(rows, images, strict=True)
            ]
            yield str(source), str(problem), labelled


def _png(gray: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(gray).save(file, "PNG", compress_level=3)
    return file.getvalue()
