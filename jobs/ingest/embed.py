"""The third stage of an ingest: rendered pages → vectors, and what else is read of them."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cluster.errors import InvalidInput, NotFound, QuireError
from cluster.text.chunks import chunk_text
from jobs.ingest.context import IngestContext
from jobs.ingest.readings import PageInput, Reading, ReadingModels
from jobs.ingest.rows import Batch, IngestRow, PageWork, from_texts, to_texts

if TYPE_CHECKING:
    from models.inputs import MultimodalInput


class EmbedPages:
    """Rendered pages → vectors of each page and of its text's chunks, and readings.

    OutOfMemory is no fault of a page: it ends the ingest, and the next one does what is left.
    """

    def __init__(self, context: IngestContext) -> None:
        from models.engine.device import limit_gpu_memory, use_threads
        from models.qwen3_vl.embedder import Qwen3VLEmbedder

        use_threads(context.threads)
        limit_gpu_memory(context.settings.gpu_memory_fraction)  # of all models in this process
        self.context = context
        self._models = ReadingModels(context.settings)
        self._embedder: Qwen3VLEmbedder | QuireError
        try:
            self._embedder = Qwen3VLEmbedder(context.options)
            for reading in context.readings:
                reading.load(self._models)
        except QuireError as error:
            # Ray turns what a constructor raises into "actor died": the first call raises it.
            self._embedder = error

    def __call__(self, batch: Batch) -> Batch:
        if isinstance(self._embedder, QuireError):
            raise self._embedder
        budgets = [self._embedder.budget, *self._models.budgets]
        started, began = time.perf_counter(), time.time()
        rows = from_texts(batch["row"])
        rendered = [
            (row, pixels, scan)
            for row, pixels, scan in zip(rows, batch["pixels"], batch["scan"], strict=True)
            if isinstance(row, PageWork) and pixels
        ]
        self._read([(page, scan) for page, _, scan in rendered])
        pages = [(page, pixels) for page, pixels, _ in rendered if not page.reason]
        vectors = self._embedder.embed([item for page in pages for item in self._inputs(*page)])
        seconds = (time.perf_counter() - started) / max(1, len(rows))
        halved = {budget.model: budget.tokens for budget in budgets if budget.halved}
        for page, _ in pages:
            page.seconds["embed"] = seconds
            page.embed_began = began
            page.halved_tokens = halved
        return {"row": to_texts(rows), "vectors": list(_split(rows, vectors))}

    def _inputs(self, page: PageWork, pixels: bytes) -> "Iterator[MultimodalInput]":
        """Yield the page's image with its text, then each chunk of the text."""
        from models.inputs import MultimodalInput

        image = np.frombuffer(pixels, np.uint8).reshape(page.shape)
        settings = self.context.settings
        page.chunks = chunk_text(
            page.text, chars=settings.chunk_chars, overlap=settings.chunk_overlap
        )
        yield MultimodalInput(text=page.text[: self.context.page_chars], images=(image,))
        yield from (MultimodalInput(text=chunk) for chunk in page.chunks)

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


def _split(rows: Sequence[IngestRow], vectors: np.ndarray) -> Iterator[bytes]:
    """The vectors of each row as bytes, float32[1 + chunks, dimension]; none for other rows."""
    taken = 0
    for row in rows:
        chunks = row.chunks if isinstance(row, PageWork) else None
        count = 0 if chunks is None else 1 + len(chunks)
        yield vectors[taken : taken + count].tobytes()
        taken += count
