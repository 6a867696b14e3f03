"""The third stage of an ingest: rendered pages → vectors, and what else is read of them."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cluster.errors import InvalidInput, NotFound, QuireError
from cluster.ids import key_of
from cluster.text.chunks import chunk_text
from jobs.ingest.context import IngestContext
from jobs.ingest.readings import PageInput, Reading, ReadingModels
from jobs.ingest.rows import Batch, PageWork, from_texts, to_texts
from jobs.ingest.watch import MAX_TRIES, Watched

if TYPE_CHECKING:
    from models.inputs import MultimodalInput
    from models.qwen3_vl.embedder import Qwen3VLEmbedder

PageBytes = tuple[PageWork, bytes, bytes]  # a page, its pixels, its scan


class EmbedPages:
    """Rendered pages → vectors of each page and of its text's chunks, and readings.

    OutOfMemory is no fault of a page: it ends the ingest, and the next one does what is left.
    """

    def __init__(self, context: IngestContext) -> None:
        self.context = context
        self.watched = Watched(context.watch, "embedding")
        self._models = ReadingModels(context.settings)
        self._embedder: Qwen3VLEmbedder | QuireError
        try:
            with self.watched.starting():
                self._embedder = self._load()
        except QuireError as error:
            # Ray turns what a constructor raises into "actor died": the first call raises it.
            self._embedder = error

    def _load(self) -> "Qwen3VLEmbedder":
        """Load the embedder, and what the readings need."""
        from models.engine.device import limit_gpu_memory, use_threads
        from models.qwen3_vl.embedder import Qwen3VLEmbedder

        use_threads(self.context.threads)
        limit_gpu_memory(self.context.settings.gpu_memory_fraction)  # of all models in this process
        embedder = Qwen3VLEmbedder(self.context.options)
        for reading in self.context.readings:
            reading.load(self._models)
        return embedder

    def __call__(self, batch: Batch) -> Batch:
        self._loaded()
        rows = from_texts(batch["row"])
        works = [
            (row, pixels, scan)
            for row, pixels, scan in zip(rows, batch["pixels"], batch["scan"], strict=True)
            if isinstance(row, PageWork) and (pixels or row.task == "chunks") and not row.reason
        ]
        vectors = self._embed_safely(works)
        return {
            "row": to_texts(rows),
            "vectors": [
                vectors[row.name] if isinstance(row, PageWork) and row.chunks is not None else b""
                for row in rows
            ],
        }

    def _loaded(self) -> "Qwen3VLEmbedder":
        """Return the embedder. Raises what kept it from being loaded."""
        if isinstance(self._embedder, QuireError):
            raise self._embedder
        return self._embedder

    def _embed_safely(self, works: list[PageBytes]) -> dict[str, bytes]:
        """Embed pages, alone where one of them has taken a worker along; vectors by page's name."""
        names = [page.name for page, _, _ in works]
        tries = self.watched.tries(names)
        if not any(tries):
            with self.watched.working(names):
                return self._embed(works)
        vectors: dict[str, bytes] = {}
        for (page, pixels, scan), before in zip(works, tries, strict=True):
            if before >= MAX_TRIES:
                page.fail("worker_ended", f"it ended or blocked {before} embedding workers")
                continue
            with self.watched.working([page.name]):
                vectors |= self._embed([(page, pixels, scan)])
        return vectors

    def _embed(self, works: list[PageBytes]) -> dict[str, bytes]:
        """Read pages and embed them; what fails of a page is in its reason."""
        embedder = self._loaded()
        budgets = [embedder.budget, *self._models.budgets]
        started, began = time.perf_counter(), time.time()
        self._read([(page, scan) for page, pixels, scan in works if pixels])
        pages = [(page, pixels) for page, pixels, _ in works if not page.reason]
        self._cut_chunks([page for page, _ in pages])
        pages = [(page, pixels) for page, pixels in pages if not page.reason]
        vectors = embedder.embed([item for page in pages for item in self._inputs(*page)])
        seconds = (time.perf_counter() - started) / max(1, len(works))
        halved = {budget.model: budget.tokens for budget in budgets if budget.halved}
        for page, _ in pages:
            page.seconds["embed"] = seconds
            page.embed_began = began
            page.halved_tokens = halved
        return _split([page for page, _ in pages], vectors)

    def _cut_chunks(self, pages: Sequence[PageWork]) -> None:
        """Cut the pages' texts; a document that is text without end is stopped here."""
        settings = self.context.settings
        chars, overlap = settings.chunk_chars, settings.chunk_overlap
        for page in pages:
            chunks = chunk_text(page.text, chars=chars, overlap=overlap)
            page.chunks = chunks[: settings.max_page_chunks]
        counts = [(key_of(page.document), page.name, len(page.chunks or ())) for page in pages]
        for page, total in zip(pages, self.watched.add_chunks(counts), strict=True):
            if total > settings.max_document_chunks:
                page.chunks = None
                page.fail(
                    "too_much_text",
                    f"its document has over {settings.max_document_chunks:,} chunks of text: "
                    "raise max_document_chunks, or split it",
                )

    def _inputs(self, page: PageWork, pixels: bytes) -> "Iterator[MultimodalInput]":
        """Yield the page's image with its text, where it is to be embedded, then its chunks."""
        from models.inputs import MultimodalInput

        if page.task == "page":
            image = np.frombuffer(pixels, np.uint8).reshape(page.shape)
            yield MultimodalInput(text=page.text[: self.context.page_chars], images=(image,))
        yield from (MultimodalInput(text=chunk) for chunk in page.chunks or ())

    def _read(self, pages: Sequence[tuple[PageWork, bytes]]) -> None:
        """Read pages before their rows are written: every page in the index has its readings."""
        for reading in self.context.readings:
            left = [(page, scan) for page, scan in pages if not page.reason]
            if not left:
                return
            try:
                self._read_together(reading, left)
            except (NotFound, InvalidInput):  # of one: which, shows when each is read by itself
                for page, scan in left:
                    self._read_alone(reading, page, scan)

    def _read_together(self, reading: Reading, pages: Sequence[tuple[PageWork, bytes]]) -> None:
        inputs = [PageInput(page.key, scan, page.text) for page, scan in pages]
        for (page, _), values in zip(pages, reading.read(inputs, self._models), strict=True):
            page.readings |= values

    def _read_alone(self, reading: Reading, page: PageWork, scan: bytes) -> None:
        try:
            self._read_together(reading, [(page, scan)])
        except NotFound:
            page.fail("gone", "it was forgotten while it was ingested")
        except InvalidInput as error:
            page.fail("unreadable", str(error))


def _split(pages: Sequence[PageWork], vectors: np.ndarray) -> dict[str, bytes]:
    """Return the vectors of each page by its name: float32[rows that it gets, dimension]."""
    parts, taken = {}, 0
    for page in pages:
        count = len(page.chunks or ()) + (page.task == "page")
        parts[page.name] = vectors[taken : taken + count].tobytes()
        taken += count
    return parts
