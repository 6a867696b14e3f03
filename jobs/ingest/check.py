"""The first stage of an ingest: sources → shards of pages that are not in the index yet.

What is only known differently (tags, metadata, where a file lies) is changed in the rows at once:
no page of it is rendered or embedded again.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from cluster.core import Document, Filter
from cluster.errors import UnreadableDocument
from cluster.ids import doc_id_of, find_mark, mark, sha256_of
from cluster.pages.files import PageFiles
from cluster.sources import local_copy, source_name, stamp_of, without_folders
from cluster.store.deletion import end_deletion, tenant_mark
from cluster.store.facts import rewrite_document
from cluster.store.milvus import MilvusStore
from jobs.ingest.context import IngestContext
from jobs.ingest.finish import with_chunks_of
from jobs.ingest.readings import READINGS, columns_of
from jobs.ingest.rows import WHOSE, Batch, Outcome, Shard, to_texts
from jobs.ingest.todo import TaskFinder, Tasks, chunk_recipe
from jobs.ingest.watch import MAX_TRIES, Watched
from jobs.rendering.client import Renderer, RenderLimits

DELETED = "it was deleted meanwhile: ingest it as a new one, if that is wanted"


class CheckDocuments:
    """Sources → shards of pages that are to be done, and outcomes of the other documents."""

    def __init__(self, context: IngestContext) -> None:
        self.context = context
        self.watched = Watched(context.watch, "checking")
        self.store = MilvusStore(context.address, self.watched.get_on)
        self.files = PageFiles.from_settings(context.settings)
        self.finder = TaskFinder(
            context.settings, context.readings, self.store, self.files, reindex=context.reindex
        )
        self.renderer = Renderer(RenderLimits.from_settings(context.settings))

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        for source in batch["source"]:
            yield {"row": to_texts(self._check_safely(str(source)))}

    def _check_safely(self, source: str) -> list[Shard | Outcome]:
        """Check a document, unless it has ended or blocked workers each time that it was tried."""
        key = f"check of {source}"
        (tries,) = self.watched.tries([key])
        if tries >= MAX_TRIES:
            document = replace(self._unread(source), status="failed")
            message = f"it ended or blocked {tries} checking workers: raise worker_timeout_s"
            return [Outcome(document, "worker_ended", message)]
        with self.watched.working([key]):
            return list(self._check(source))

    def _unread(self, source: str) -> Document:
        """Return a document of which only the name is known."""
        return self._document(source, hashlib.sha256(os.fsencode(source)).hexdigest(), "")

    def _check(self, source: str) -> Iterator[Shard | Outcome]:
        document = self._unread(source)
        stored: Document | None = None
        if self.context.is_job and self.context.reindex and not self._is_indexed(source):
            yield _deleted(document)
            return
        try:
            stamp = stamp_of(source)  # before the bytes: a change in between must show
            most_bytes = self.context.settings.max_document_bytes
            with local_copy(source, most_bytes, self.watched.get_on) as path:
                if self._can_hash(path):
                    document = self._document(source, sha256_of(path), stamp)
                    stored = self._stored(document)
                    if self.context.is_job and stored and stored.status == "deleting":
                        yield _deleted(document)
                        return
                    stored = stored if stored and stored.status != "deleting" else None
                    if (outcome := self._twin(document)) is not None:
                        yield outcome
                        return
                tasks = self.finder.tasks(stored) if stored and stored.pages else None
                if stored is not None and tasks == {} and _is_whole(stored):
                    yield self._unchanged(document, stored)
                    return
                info = self.renderer.check(path)
        except UnreadableDocument as error:
            yield self._refuse(document, stored, error)
        except OSError as error:
            is_gone = isinstance(error, FileNotFoundError) and not self._is_indexed(source)
            if self.context.is_job and is_gone:
                yield _deleted(document)  # an upload, and only a deletion removes it
                return
            message = f"it cannot be read ({cause_of(error)}): check that it is there"
            yield self._refuse(document, stored, UnreadableDocument("unreadable", message))
        else:
            document = replace(document, title=info.title, pages=info.pages)
            if tasks is None:
                tasks = {"page": list(range(1, info.pages + 1))}
            yield from self._split(document, stored, tasks, stamp)

    def _is_indexed(self, source: str) -> bool:
        documents = self.store.documents(Filter(tenant=self.context.tenant), source=source)
        return any(document.status != "deleting" for document in documents)

    def _stored(self, document: Document) -> Document | None:
        """Return what the index has of these bytes; None where nothing."""
        return self.store.document(document.tenant, document.doc_id)

    def _was_deleted(self, stored: Document | None) -> bool:
        """True where what was stored a moment ago is not any more."""
        if stored is None:
            return False
        now = self._stored(stored)
        return now is None or now.status == "deleting"

    def _twin(self, document: Document) -> Outcome | None:
        """Return the outcome of a file whose bytes another one of this ingest has, too."""
        claimed = self.watched.claim(document.doc_id, document.source)
        if claimed == document.source:
            return None
        return Outcome(document, message=f"the same bytes as {source_name(claimed)}")

    def _document(self, source: str, sha256: str, stamp: str) -> Document:
        """Return the document as this ingest would write it."""
        return Document(
            doc_id=doc_id_of(sha256),
            sha256=sha256,
            source=source,
            tenant=self.context.tenant,
            tags=self.context.tags,
            metadata=self.context.metadata,
            fingerprint=str(self.context.fingerprint),
            time_ms=int(time.time() * 1000),
            marks=(
                mark("ingest", self.context.ingest_id),
                mark("stamp", stamp),
                mark("chunks", chunk_recipe(self.context.settings)),
            ),
        )

    def _can_hash(self, path: str) -> bool:
        """False for a pipe, a device or a file over the limit: the renderer says which."""
        status = Path(path).stat()
        limit = self.context.settings.max_document_bytes
        return stat.S_ISREG(status.st_mode) and status.st_size <= limit

    def _unchanged(self, document: Document, stored: Document) -> Outcome:
        """Return the outcome of a document of which no page is to be done."""
        merged = replace(self._merged(document, stored), status="indexed", pages=stored.pages)
        updated = _facts(merged) != _facts(stored)
        if updated and (outcome := self._rewrite(stored, merged)) is not None:
            return outcome
        is_twin = merged.source != document.source
        message = f"the same bytes as {source_name(merged.source)}" if is_twin else ""
        pages = replace(document, pages=stored.pages)
        return Outcome(pages, message=message, updated=updated, is_indexed=True)

    def _rewrite(self, stored: Document, merged: Document) -> Outcome | None:
        """Rewrite what is known of a document; returns an outcome where it is not ours any more."""
        if self._was_deleted(stored) or self._tenant_is_gone(merged):
            return _deleted(merged)
        owner = rewrite_document(self.store, stored, merged, self.watched.get_on)
        if owner == "ours":
            return None
        reason, message = WHOSE[owner]
        return Outcome(replace(merged, status="skipped"), reason, message)

    def _merged(self, document: Document, stored: Document) -> Document:
        """Return a document with what is known of it, as far as this ingest says nothing else.

        Of two files with the same bytes, the first stays the source while it has them.
        """
        stays = stored.source == document.source or self._still_holds(stored)
        return replace(
            document,
            title=stored.title or document.title,
            tags=document.tags or stored.tags,
            metadata=document.metadata or stored.metadata,
            source=stored.source if stays else document.source,
        )

    def _still_holds(self, stored: Document) -> bool:
        """True while the file that a document was ingested from has the same bytes."""
        try:
            if find_mark(stored.marks, "stamp") == mark("stamp", stamp_of(stored.source)):
                return True
            return "://" not in stored.source and sha256_of(stored.source) == stored.sha256
        except OSError:
            return False

    def _refuse(
        self, document: Document, stored: Document | None, error: UnreadableDocument
    ) -> Outcome:
        status: Literal["skipped", "failed"] = "skipped" if error.skipped else "failed"
        message = without_folders(str(error), document.source)
        refused = replace(document, status=status, error=f"{error.reason}: {message}")
        if stored is not None and stored.pages:  # what there is of it can be found as before
            return Outcome(refused, error.reason, f"{message}; what is indexed of it stays")
        if self._was_deleted(stored):
            return _deleted(document)
        return self._put(refused) or Outcome(refused, error.reason, message)

    def _split(
        self, document: Document, stored: Document | None, tasks: Tasks, stamp: str
    ) -> Iterator[Shard | Outcome]:
        """Write the document down as being indexed; yields its shards."""
        source, began = document.source, document
        if stored is not None:
            document = self._merged(document, stored)
            # Until its end the chunks that it has count: a resumed ingest must see their recipe.
            began = with_chunks_of(stored, document)
            if _facts(document) != _facts(stored):
                outcome = self._rewrite(stored, began)
                if outcome is not None:
                    yield outcome
                    return
        if self._was_deleted(stored):
            yield _deleted(document)
            return
        readings = self.store.readings(document, columns_of(READINGS)) if stored else {}
        if (outcome := self._put(began)) is not None:
            yield outcome
            return
        todo = sum(map(len, tasks.values()))
        size = self.context.settings.shard_pages
        if not todo:  # all is there, but it was never finished: one empty shard ends it
            yield Shard(document, source, "page", (), 0, stamp, is_new=False)
        for task, pages in tasks.items():
            for start in range(0, len(pages), size):
                part = tuple(pages[start : start + size])
                known = {page: readings[page] for page in part if page in readings}
                yield Shard(document, source, task, part, todo, stamp, stored is None, known)

    def _put(self, document: Document) -> Outcome | None:
        """Write a document's row; returns an outcome where its tenant was forgotten meanwhile."""
        self.store.put_document(document)
        if not self._tenant_is_gone(document):
            return None
        end_deletion(self.store, document)
        return _deleted(document)

    def _tenant_is_gone(self, document: Document) -> bool:
        return tenant_mark(self.store, document.tenant) != self.context.tenant_mark


def cause_of(error: OSError) -> str:
    """Return what the system says, without the path that it may add."""
    return error.strerror or type(error).__name__


def _deleted(document: Document) -> Outcome:
    return Outcome(replace(document, status="skipped"), "deleted", DELETED)


def _is_whole(stored: Document) -> bool:
    return stored.status == "indexed" and not stored.error


def _facts(document: Document) -> tuple[object, ...]:
    return document.tags, document.metadata, document.source, document.title
