"""The last stage of an ingest: vectors → rows in the store; what comes out is each page's end."""

import time
from collections.abc import Iterator, Sequence

import numpy as np

from cluster.core import Document, Row
from cluster.store.milvus import MilvusStore
from jobs.ingest.context import IngestContext
from jobs.ingest.rows import Batch, PageWork, from_texts, to_texts


class WritePages:
    """Writes rows, and removes those that an earlier ingest of the document wrote and this one not.

    These are chunks beyond those that a page has now, and every row of a page that now fails. The
    index holds what the document's last ingest could read; its report and its error name the rest.
    """

    def __init__(self, context: IngestContext) -> None:
        self.store = MilvusStore(context.address)
        self.dimension = context.dimension

    def __call__(self, batch: Batch) -> Batch:
        started = time.perf_counter()
        ingest_rows = from_texts(batch["row"])
        pages = [row for row in ingest_rows if isinstance(row, PageWork)]
        rows = [
            row
            for work, vectors in zip(ingest_rows, batch["vectors"], strict=True)
            if isinstance(work, PageWork) and vectors
            for row in self._rows(work, np.frombuffer(vectors, np.float32))
        ]
        self._trim(pages)  # first: where a page's own row is as it should be, so are its chunks
        self.store.write_rows(rows)
        seconds = (time.perf_counter() - started) / max(1, len(ingest_rows))
        for page in pages:
            page.seconds["write"] = seconds if page.chunks is not None else 0.0
            page.text, page.chunks = "", None  # the driver needs neither
        return {"row": to_texts(ingest_rows)}

    def _trim(self, pages: Sequence[PageWork]) -> None:
        rows_by_page: dict[str, dict[int, int]] = {}  # how many rows each page has, by document
        documents: dict[str, Document] = {}
        for page in pages:
            if not page.is_new:
                documents[page.document.doc_id] = page.document
                rows = 0 if page.chunks is None else 1 + len(page.chunks)
                rows_by_page.setdefault(page.document.doc_id, {})[page.page] = rows
        for doc_id, document in documents.items():
            self.store.trim_pages(document, rows_by_page[doc_id])

    def _rows(self, page: PageWork, vectors: np.ndarray) -> Iterator[Row]:
        """The rows of a page; its own comes last: where that is present, so are its chunks."""
        texts = [page.text, *(page.chunks or ())]
        numbered = enumerate(zip(texts, vectors.reshape(-1, self.dimension), strict=True))
        for chunk, (text, vector) in reversed(list(numbered)):
            yield Row(
                page.document,
                page.page,
                chunk,
                text,
                vector,
                page.width_px,
                page.height_px,
                page.readings,
            )
