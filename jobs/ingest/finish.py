"""The end of a document's ingest: its final status is stored, what it replaces is forgotten."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cluster.core import Document, DocumentStatus, Filter
from cluster.ids import find_mark, key_of, mark, replace_mark
from cluster.settings import Settings
from cluster.store.deletion import Owner, end_deletion, owner_of, owners
from cluster.store.milvus import MilvusStore
from jobs.forget import Forgetter

SWEEP = 1000  # documents in one query


@dataclass(frozen=True)
class Finish:
    """How a document ended. `owner` is not "ours" where it was deleted or taken over meanwhile."""

    document: Document
    owner: Owner = "ours"
    replaced: tuple[str, ...] = ()


class DocumentFinisher:
    """Writes documents' final status; `replaces` are ids that the ingest was asked to replace."""

    def __init__(self, settings: Settings, store: MilvusStore, replaces: Iterable[str]) -> None:
        self._store = store
        self._forgetter = Forgetter(settings, store)
        self._replaces = set(replaces)
        self._share = settings.replace_share

    def finish(self, document: Document, *, pages: int, sound: int) -> Finish:
        """Store a document of which `pages` pages must be in the index; forget what it replaces.

        It is indexed where any page of it can be found. `sound`: its pages that are not damaged in
        themselves; with too few of them in the index the older version stays.
        """
        stored = self._store.document(document.tenant, document.doc_id)
        owner = owner_of(document, stored)
        if owner == "another":
            return Finish(document, owner)
        present = 0
        if owner == "ours" and stored is not None:
            if pages < sound:  # not all of it was done: the chunks that it had count
                document = with_chunks_of(stored, document)
            self._store.put_document(document)
            present = self._count(document)  # after its row: a deletion in between took them all
        if owner == "gone" or (pages and not present):
            self._drop(document)
            return Finish(document, "gone")
        return self._settle(document, present, pages, sound)

    def stop(self, ingest_id: str, tenant: str, why: str) -> None:
        """Settle every document that an ingest was still at: what is in can be found."""
        own = Filter(tenant=tenant)
        at_work = self._store.documents(own, status="indexing", mark=mark("ingest", ingest_id))
        for document in at_work:
            status: DocumentStatus = "indexed" if self._count(document) else "failed"
            self._store.put_document(replace(document, status=status, error=why))

    def sweep(self, documents: Sequence[Document]) -> None:
        """Remove what was written of documents that are gone, where their ingest ended early."""
        for start in range(0, len(documents), SWEEP):
            part = documents[start : start + SWEEP]
            whose = owners(self._store, part)
            for document in part:
                if whose[key_of(document)] == "gone":
                    self._forgetter.forget_unwritten(document)

    def _drop(self, document: Document) -> None:
        end_deletion(self._store, document)
        self._forgetter.forget_unwritten(document)

    def _settle(self, document: Document, present: int, pages: int, sound: int) -> Finish:
        """Store the final status of a document, of which `present` pages are in the index."""
        final = replace(document, status="indexed" if present else "failed")
        if present < pages:  # lost by the server, or a page was removed
            final = _with_error(final, f"{pages - present} pages are gone again: ingest it again")
        older = self._older(document) if present else []
        if older and present < self._share * sound:
            final = _with_error(final, "the version before it stays until more of it came in")
            older = []
        if final != document:
            self._store.put_document(final)
        return Finish(final, replaced=tuple(self._forget(older)))

    def forget_replaced(self, document: Document) -> list[str]:
        """Forget older documents of the same source, and those asked for; returns their ids."""
        return self._forget(self._older(document))

    def _forget(self, documents: Iterable[Document]) -> list[str]:
        return [self._forgetter.forget(each).doc_id for each in documents]

    def _older(self, document: Document) -> list[Document]:
        tenant = Filter(tenant=document.tenant)
        older = [
            each
            for each in self._store.documents(tenant, source=document.source)
            if each.time_ms <= document.time_ms
        ]
        if self._replaces:
            asked = Filter(tenant=document.tenant, doc_ids=tuple(self._replaces))
            older += self._store.documents(asked)
        by_id = {each.doc_id: each for each in older}
        by_id.pop(document.doc_id, None)
        return list(by_id.values())

    def _count(self, document: Document) -> int:
        return self._store.count_pages(Filter.of(document))


def _with_error(document: Document, message: str) -> Document:
    return replace(document, error=f"{document.error}; {message}".removeprefix("; "))


def with_chunks_of(stored: Document, document: Document) -> Document:
    """Return a document with the chunks' recipe that is stored: not all of them are new."""
    recipe = find_mark(stored.marks, "chunks")
    return replace(document, marks=replace_mark(document.marks, "chunks", recipe))
