"""Rows that come into a collection with their vectors, as the work of one ingest of its own.

First every document gets its row (`begin`), then rows are written (`write`), at last documents
become `indexed` (`finish`). Whoever deletes a document or ingests it meanwhile has it: of what is
deleted nothing stays, and what another ingest is at is left alone. An intake that was interrupted
goes on when it is begun again under the same id.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from cluster.core import Document, DocumentStatus, Filter, Row
from cluster.ids import filter_label, key_of, mark
from cluster.store import schema
from cluster.store.deletion import end_deletion, owner_of, owners
from cluster.store.filters import with_labels
from cluster.store.milvus import MilvusStore

FINISH_DOCUMENTS = 256  # at a time
LONG_PAGES = 1000  # a document of more is counted by itself
SETTLED: tuple[DocumentStatus, ...] = ("indexed", "failed", "skipped")


@dataclass
class IntakeCounts:
    """What an intake did; `left` counts rows whose documents others had, or deleted."""

    documents: int = 0
    pages: int = 0
    rows: int = 0
    left: int = 0


@dataclass
class Intake:
    """One intake into a collection that is there; `intake_id` names its work again."""

    store: MilvusStore
    intake_id: str
    counts: IntakeCounts = field(default_factory=IntakeCounts)

    @property
    def mark(self) -> str:
        """Return the mark by which its documents are known."""
        return mark("ingest", self.intake_id)

    def begin(self, documents: Iterable[Document]) -> None:
        """Take documents over that nobody is at; those that are there keep what is known of them.

        May be called again for the same documents.
        """
        by_key = {key_of(document): document for document in documents}
        stored = self.store.stored_documents(by_key.values())
        begun = []
        for key, document in by_key.items():
            known = stored.get(key, document)
            if key not in stored or known.status in SETTLED:
                begun.append(replace(known, status="indexing", error="", marks=(self.mark,)))
        self.store.put_documents(begun)

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows of documents that were begun; the others are counted as left."""
        stored = self.store.stored_documents(
            {key_of(row.document): row.document for row in rows}.values()
        )
        ours = {key: each for key, each in stored.items() if self._has(each)}
        written = [
            replace(row, document=ours[key])
            for row in rows
            if (key := key_of(row.document)) in ours
        ]
        self.counts.left += len(rows) - len(written)
        if columns := {name for row in written for name in row.readings}:
            self.store.check_columns(columns)
        self.store.write_rows(written)
        self.counts.rows += len(written)
        for key, owner in owners(self.store, ours.values()).items():
            if owner == "gone":
                self.store.forget_pages(ours[key])

    def finish(self) -> None:
        """Store the final status of every document that is still ours."""
        for documents in self._begun():
            before = self._pages_present(documents)
            finals = [_final(document, before[key_of(document)]) for document in documents]
            self.store.put_documents(finals)
            # After their rows: a deletion in between took all of them.
            after = self._pages_present(finals)
            for document in finals:
                key = key_of(document)
                if before[key] and not after[key]:
                    end_deletion(self.store, document)
                    self.store.forget_pages(document)
                else:
                    self.counts.documents += 1
                    self.counts.pages += after[key]

    def _has(self, document: Document) -> bool:
        is_ours = owner_of(Document("", "", "", marks=(self.mark,)), document) == "ours"
        return is_ours and document.status == "indexing"

    def _begun(self) -> Iterator[list[Document]]:
        """Yield documents that have no final status yet; who got one is not found again."""
        stored = self.store.required()
        expression = with_labels([filter_label("status", "indexing"), self.mark])
        fields = stored.document_fields
        while entities := self.store.client.query(
            stored.documents, expression, fields, rows=FINISH_DOCUMENTS
        ):
            yield [schema.to_document(entity) for entity in entities]

    def _pages_present(self, documents: Sequence[Document]) -> dict[str, int]:
        short = [document for document in documents if document.pages <= LONG_PAGES]
        long = [document for document in documents if document.pages > LONG_PAGES]
        return self.store.page_counts(short) | {
            key_of(document): self.store.count_pages(Filter.of(document)) for document in long
        }


def _final(document: Document, pages: int) -> Document:
    """Return a document of which so many pages are in the index, as it ends."""
    if not pages:
        error = "none of its pages came in with its rows: import pages too, or ingest it again"
        return replace(document, status="failed", error=error)
    missing = document.pages - pages
    error = f"{missing} pages did not come in: ingest it again" if missing > 0 else ""
    return replace(document, status="indexed", error=error)
