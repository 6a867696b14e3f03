"""The last stage of an ingest: vectors → rows in the store; what comes out is each page's end."""

import time
from collections.abc import Iterator, Sequence
from itertools import zip_longest

import numpy as np

from cluster.core import Document, Row
from cluster.ids import key_of
from cluster.store.deletion import owners
from cluster.store.milvus import MilvusStore
from jobs.forget import Forgetter
from jobs.ingest.context import IngestContext
from jobs.ingest.rows import WHOSE, Batch, PageWork, from_texts, to_texts
from jobs.ingest.watch import MAX_TRIES, Watched


class WritePages:
    """Writes rows, and removes what of a page is not there any more.

    These are chunks beyond those that a page has now, and the rows of a page that is damaged in
    itself. A page that fails for a passing reason keeps the rows that it has. What was deleted, or
    is another ingest's by now, is asked before and after writing: nothing of it stays.
    """

    def __init__(self, context: IngestContext) -> None:
        self.watched = Watched(context.watch, "writing")
        self.store = MilvusStore(context.address, self.watched.get_on)
        self.forgetter = Forgetter(context.settings, self.store)
        self.fingerprint = context.fingerprint

    def __call__(self, batch: Batch) -> Batch:
        started = time.perf_counter()
        ingest_rows = from_texts(batch["row"])
        pages = [row for row in ingest_rows if isinstance(row, PageWork)]
        keys = [f"writing of {page.name}" for page in pages]
        if max(self.watched.tries(keys), default=0) >= MAX_TRIES:
            for page in pages:
                page.chunks = None
                page.fail("worker_ended", "writing it ended or blocked its worker each time")
        else:
            with self.watched.working(keys):
                self._write(ingest_rows, batch["vectors"])
        seconds = (time.perf_counter() - started) / max(1, len(ingest_rows))
        for page in pages:
            page.seconds["write"] = seconds if page.chunks is not None else 0.0
            page.text, page.chunks = "", None  # the driver needs neither
        return {"row": to_texts(ingest_rows)}

    def _write(self, ingest_rows: Sequence[object], vectors: Sequence[bytes]) -> None:
        works = [
            (row, vector)
            for row, vector in zip(ingest_rows, vectors, strict=True)
            if isinstance(row, PageWork)
        ]
        self.store.client.side_by_side(
            lambda: self._drop_lost([page for page, _ in works]),
            lambda: self.store.check_still(self.fingerprint),  # dropped and made anew meanwhile?
        )
        ours = [(page, vector) for page, vector in works if page.reason not in _LOST]
        self._trim([page for page, _ in ours])  # first: where a page's own row is right, so is all
        self.store.write_rows(
            row
            for page, vector in ours
            if page.chunks is not None
            for row in self._rows(page, np.frombuffer(vector, np.float32))
        )
        self._drop_lost([page for page, _ in ours])

    def _drop_lost(self, pages: Sequence[PageWork]) -> None:
        """Fail pages of documents that are gone or taken over; of the former nothing stays."""
        documents = {key_of(page.document): page.document for page in pages}
        for key, owner in owners(self.store, documents.values()).items():
            if owner == "ours":
                continue
            for page in pages:
                if key_of(page.document) == key:
                    page.fail(*WHOSE[owner])
                    page.chunks = None
            if owner == "gone":
                self.forgetter.forget_unwritten(documents[key])

    def _trim(self, pages: Sequence[PageWork]) -> None:
        rows_by_page: dict[str, dict[int, int]] = {}  # how many rows each page has, by document
        documents: dict[str, Document] = {}
        for page in pages:
            if not page.is_new and page.rows is not None:
                documents[page.document.doc_id] = page.document
                rows_by_page.setdefault(page.document.doc_id, {})[page.page] = page.rows
        for doc_id, document in documents.items():
            self.store.trim_pages(document, rows_by_page[doc_id])

    def _rows(self, page: PageWork, vectors: np.ndarray) -> Iterator[Row]:
        """Yield the rows of a page and of its chunks, which may have no vectors."""
        texts = list(enumerate([page.text, *(page.chunks or ())]))
        if page.task == "chunks":
            texts = texts[1:]
        by_row = vectors.reshape(-1, self.fingerprint.dimension)
        for (chunk, text), vector in zip_longest(texts, by_row):
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


_LOST = {reason for reason, _ in WHOSE.values()}
