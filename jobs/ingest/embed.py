"""The stage of an ingest with the embedder: rendered pages → vectors."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cluster.errors import QuireError
from cluster.ids import key_of
from cluster.text.chunks import chunk_text
from jobs.ingest.context import IngestContext
from jobs.ingest.pixels import unpack_pixels
from jobs.ingest.rows import Batch, PageWork, from_texts, to_texts
from jobs.ingest.watch import Watched
from models.protocols import Budget

if TYPE_CHECKING:
    from models.inputs import MultimodalInput
    from models.qwen3_vl.embedder import Qwen3VLEmbedder

PageBytes = tuple[PageWork, bytes]  # a page and its pixels, packed


class PageEmbedder(Protocol):
    """What embeds pages: a model in this process, or one that somebody else has loaded."""

    @property
    def budget(self) -> Budget: ...

    def encode(self, item: "MultimodalInput") -> Any:
        """Prepare an input; safe to call from several threads."""
        ...

    def embed_encoded(self, items: Sequence[Any]) -> np.ndarray:
        """Return float32[len(items), dimension], unit length. Raises OutOfMemory or Overloaded."""
        ...


class EmbedPages:
    """Rendered pages → vectors of each page and of its text's chunks.

    Two calls come at once: while the pages of one are computed, those of the other are encoded, and
    what is done goes on its way. OutOfMemory is no fault of a page: it ends the ingest, and the
    next one does what is left.
    """

    def __init__(self, context: IngestContext, embedder: PageEmbedder | None = None) -> None:
        """Load the embedder, unless one is given."""
        self.context = context
        self.watched = Watched(context.watch, "embedding")
        self._ended = 0.0  # when the last batch came back
        self._embedder: PageEmbedder | QuireError
        try:
            with self.watched.starting():
                self._embedder = embedder or self._load()
        except QuireError as error:
            # Ray turns what a constructor raises into "actor died": the first call raises it.
            self._embedder = error

    def _load(self) -> "Qwen3VLEmbedder":
        from models.engine.device import limit_gpu_memory, use_threads
        from models.qwen3_vl.embedder import Qwen3VLEmbedder

        # On a CPU calls are computed side by side: two of one thread do more than one of two.
        use_threads(max(1, self.context.threads // self.context.embed_calls))
        limit_gpu_memory(self.context.gpu.embedding_memory)
        return Qwen3VLEmbedder(self.context.options)

    def __call__(self, batch: Batch) -> Batch:
        self._loaded()
        rows = from_texts(batch["row"])
        works = [
            (row, pixels)
            for row, pixels in zip(rows, batch["pixels"], strict=True)
            if isinstance(row, PageWork) and (pixels or row.task == "chunks") and not row.reason
        ]
        vectors: dict[str, bytes] = {}
        self.watched.each(
            [page for page, _ in works], works, lambda some: vectors.update(self._embed(some))
        )
        return {
            "row": to_texts(rows),
            "vectors": [
                vectors[row.name] if isinstance(row, PageWork) and row.chunks is not None else b""
                for row in rows
            ],
        }

    def _loaded(self) -> PageEmbedder:
        """Return the embedder. Raises what kept it from being loaded."""
        if isinstance(self._embedder, QuireError):
            raise self._embedder
        return self._embedder

    def _embed(self, works: list[PageBytes]) -> dict[str, bytes]:
        """Embed pages → vectors float32[what of it is embedded, dimension] by page's name.

        What fails of a page is in its reason.
        """
        embedder = self._loaded()
        started, began = time.perf_counter(), time.time()
        self._cut_chunks([page for page, _ in works])
        pages = [(page, pixels) for page, pixels in works if not page.reason]
        inputs = [[embedder.encode(item) for item in self._inputs(*page)] for page in pages]
        vectors = embedder.embed_encoded([item for of_page in inputs for item in of_page])
        ended = time.perf_counter()
        # Of two batches at once, the time of both counts once.
        seconds = (ended - max(started, self._ended)) / max(1, len(works))
        self._ended = ended
        budget = embedder.budget
        for page, _ in pages:
            page.seconds["embed"] = seconds
            page.embed_began = began
            if budget.halved:
                page.halved_tokens[budget.model] = budget.tokens
        ends = np.cumsum([len(of_page) for of_page in inputs])
        of_pages = np.split(vectors, ends[:-1]) if pages else []
        return {
            page.name: of_page.tobytes() for (page, _), of_page in zip(pages, of_pages, strict=True)
        }

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
        """Yield what is to be embedded: the page's image with its text, then its chunks."""
        from models.inputs import MultimodalInput

        if page.task == "page":
            image = unpack_pixels(pixels, page.shape)
            yield MultimodalInput(text=page.text[: self.context.page_chars], images=(image,))
        if self.context.chunk_vectors:
            yield from (MultimodalInput(text=chunk) for chunk in page.chunks or ())
