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
class Ending:
    """A document at its end, of which `pages` pages must be in the index.

    `sound`: its pages that are not damaged in themselves; with too few of them in the index the
    older version stays.
    """

    document: Document
    pages: int
    sound: int


@dataclass(frozen=True)
class Finish:
    """How a document ended. `owner` is not "ours" where it was deleted or taken over meanwhile."""

    document: Document
    owner: Owner = "ours"
    replaced: tuple[Document, ...] = ()


class DocumentFinisher:
    """Writes documents' final status; `replaces` are ids that the ingest was asked to replace.

    The store is asked about many documents at once: on a server every question takes its time.
    """

    def __init__(
        self, settings: Settings, store: MilvusStore, tenant: str, replaces: Iterable[str]
    ) -> None:
        self._store = store
        self._forgetter = Forgetter(settings, store)
        self._tenant = tenant
        self._replaces = tuple(replaces)
        self._share = settings.replace_share

    def finish(self, endings: Sequence[Ending]) -> list[Finish]:
        """Store documents that have ended; forget what they replace.

        A document is indexed where any page of it can be found.
        """
        stored = self._store.stored_documents(ending.document for ending in endings)
        owners_by_key = {
            (key := key_of(ending.document)): owner_of(ending.document, stored.get(key))
            for ending in endings
        }
        ours = {
            key: _ended(ending, stored[key])
            for ending in endings
            if owners_by_key[key := key_of(ending.document)] == "ours"
        }
        self._store.put_documents(ours.values())
        # After their rows: a deletion in between took all of them.
        present, older = self._store.client.side_by_side(
            lambda: self._store.page_counts(ours.values()), lambda: self._older(ours.values())
        )
        finishes = []
        for ending in endings:
            key = key_of(ending.document)
            if owners_by_key[key] == "another":
                finishes.append(Finish(ending.document, "another"))
            elif key not in ours or (ending.pages and not present[key]):
                self._drop(ending.document)
                finishes.append(Finish(ending.document, "gone"))
            else:
                ended = replace(ending, document=ours[key])
                finishes.append(self._settle(ended, present[key], older[key]))
        settled = [finish for finish in finishes if finish.owner == "ours"]
        self._store.put_documents(
            finish.document
            for finish in settled
            if finish.document != ours[key_of(finish.document)]
        )
        for finish in settled:
            self._forget(finish.replaced)
        return finishes

    def forget_replaced(self, documents: Sequence[Document]) -> list[tuple[Document, ...]]:
        """Forget older documents of the same sources, and those asked for; returns them."""
        older = self._older(documents)
        replaced = [tuple(older[key_of(document)]) for document in documents]
        for each in replaced:
            self._forget(each)
        return replaced

    def stop(self, ingest_id: str, tenant: str, why: str) -> None:
        """Settle every document that an ingest was still at: what is in can be found."""
        own = Filter(tenant=tenant)
        at_work = self._store.documents(own, status="indexing", mark=mark("ingest", ingest_id))
        for document in at_work:
            pages = self._store.count_pages(Filter.of(document))
            status: DocumentStatus = "indexed" if pages else "failed"
            self._store.put_document(replace(document, status=status, error=why))

    def sweep(self, documents: Sequence[Document]) -> None:
        """Remove what was written of documents that are gone, where their ingest ended early."""
        for start in range(0, len(documents), SWEEP):
            part = documents[start : start + SWEEP]
            whose = owners(self._store, part)
            for document in part:
                if whose[key_of(document)] == "gone":
                    self._forgetter.forget_unwritten(document)

    def _settle(self, ending: Ending, present: int, older: Sequence[Document]) -> Finish:
        """Decide the final status of a document, of which `present` pages are in the index."""
        final = replace(ending.document, status="indexed" if present else "failed")
        if present < ending.pages:  # lost by the server, or a page was removed
            lost = ending.pages - present
            final = _with_error(final, f"{lost} pages are gone again: ingest it again")
        if older and present and present < self._share * ending.sound:
            final = _with_error(final, "the version before it stays until more of it came in")
            older = ()
        return Finish(final, replaced=tuple(older) if present else ())

    def _drop(self, document: Document) -> None:
        end_deletion(self._store, document)
        self._forgetter.forget_unwritten(document)

    def _forget(self, documents: Iterable[Document]) -> None:
        for document in documents:
            self._forgetter.forget(document)

    def _older(self, documents: Iterable[Document]) -> dict[str, list[Document]]:
        """Return for each document, by key, those that it replaces."""
        newer = list(documents)
        of_sources = self._store.documents_of_sources(self._tenant, {each.source for each in newer})
        asked: list[Document] = []
        if self._replaces and newer:
            asked = self._store.documents(Filter(tenant=self._tenant, doc_ids=self._replaces))
        return {
            key_of(document): [
                *(
                    each
                    for each in of_sources[document.source]
                    if each.time_ms <= document.time_ms and each.doc_id != document.doc_id
                ),
                *(
                    each
                    for each in asked
                    if each.doc_id != document.doc_id and each.source != document.source
                ),
            ]
            for document in newer
        }


def _ended(ending: Ending, stored: Document) -> Document:
    """Return a document as it has ended; where not all of it was done, its former chunks count."""
    is_partly = ending.pages < ending.sound
    return with_chunks_of(stored, ending.document) if is_partly else ending.document


def _with_error(document: Document, message: str) -> Document:
    return replace(document, error=f"{document.error}; {message}".removeprefix("; "))


def with_chunks_of(stored: Document, document: Document) -> Document:
    """Return a document with the chunks' recipe that is stored: not all of them are new."""
    recipe = find_mark(stored.marks, "chunks")
    return replace(document, marks=replace_mark(document.marks, "chunks", recipe))
