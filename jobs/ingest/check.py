"""The first stage of an ingest: sources → shards of pages that are not in the index yet.

What is only known differently (tags, metadata, where a file lies) is changed in the rows at once:
no page of it is rendered or embedded again.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cluster.core import Document, Filter
from cluster.errors import UnreadableDocument
from cluster.ids import MarkKind, doc_id_of, find_mark, key_of, mark, replace_mark, sha256_of
from cluster.pages.files import PageFiles
from cluster.sources import local_copy, source_name, stamp_of, without_folders
from cluster.store.deletion import end_deletion, tenant_mark
from cluster.store.facts import rewrite_document
from cluster.store.milvus import MilvusStore
from jobs.ingest.context import IngestContext
from jobs.ingest.finish import with_chunks_of
from jobs.ingest.readings import READINGS, columns_of, reading_recipe
from jobs.ingest.rows import WHOSE, Batch, Outcome, Shard, to_texts
from jobs.ingest.todo import TaskFinder, Tasks, chunk_recipe
from jobs.ingest.watch import MAX_TRIES, Watched
from jobs.rendering.client import DocumentInfo, Renderer, RenderLimits

NOTED: tuple[MarkKind, ...] = ("stamp", "chunks", "readings")
DELETED = "it was deleted meanwhile: ingest it as a new one, if that is wanted"


@dataclass(frozen=True)
class Look:
    """What was seen of a source: its document, and how many pages it has or why it has none.

    `is_hashed`: the document's identity is that of its bytes.
    """

    document: Document
    stamp: str = ""
    is_hashed: bool = False
    info: DocumentInfo | None = None
    error: UnreadableDocument | None = None


@dataclass(frozen=True)
class Begin:
    """A document of which pages are to be done: as it is written down now, and as it will end."""

    look: Look
    began: Document
    document: Document
    tasks: Tasks
    stored: Document | None


class CheckDocuments:
    """Sources → shards of pages that are to be done, and outcomes of the other documents.

    The store is asked about all sources of a batch at once.
    """

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
        for sources in batch["sources"]:
            yield {"row": to_texts(self.check(json.loads(str(sources))))}

    def close(self) -> None:
        """End the renderer's process."""
        self.renderer.close()

    def check(self, sources: Sequence[str]) -> Iterator[Shard | Outcome]:
        """Check documents; yields their outcomes and shards."""
        looks = []
        for source in sources:
            look = self._look_safely(source)
            if isinstance(look, Outcome):
                yield look
            else:
                looks.append(look)
        keys = [f"look-up of {look.document.source}" for look in looks]
        if max(self.watched.tries(keys), default=0) >= MAX_TRIES:
            yield from (self._ended_workers(look.document.source) for look in looks)
        elif looks:
            with self.watched.working(keys):
                yield from list(self._decide(looks))

    def _look_safely(self, source: str) -> Look | Outcome:
        """Look at a source, unless it has ended or blocked workers each time that it was tried."""
        key = f"check of {source}"
        (tries,) = self.watched.tries([key])
        if tries >= MAX_TRIES:
            return self._ended_workers(source)
        with self.watched.working([key]):
            return self._look(source)

    def _ended_workers(self, source: str) -> Outcome:
        document = replace(self._unread(source), status="failed")
        message = f"it ended or blocked {MAX_TRIES} checking workers: raise worker_timeout_s"
        return Outcome(document, "worker_ended", message)

    def _unread(self, source: str) -> Document:
        """Return a document of which only the name is known."""
        return self._document(source, hashlib.sha256(os.fsencode(source)).hexdigest(), "")

    def _look(self, source: str) -> Look | Outcome:
        """Read the bytes of a source."""
        look = Look(self._unread(source))
        if self.context.is_job and self.context.reindex and not self._is_indexed(source):
            return _deleted(look.document)
        try:
            stamp = stamp_of(source)  # before the bytes: a change in between must show
            most_bytes = self.context.settings.max_document_bytes
            with local_copy(source, most_bytes, self.watched.get_on) as path:
                if self._can_hash(path):
                    document = self._document(source, sha256_of(path), stamp)
                    look = Look(document, stamp, is_hashed=True)
                return replace(look, stamp=stamp, info=self.renderer.check(path))
        except UnreadableDocument as error:
            return replace(look, error=error)
        except OSError as error:
            is_gone = isinstance(error, FileNotFoundError) and not self._is_indexed(source)
            if self.context.is_job and is_gone:
                return _deleted(look.document)  # an upload, and only a deletion removes it
            message = f"it cannot be read ({cause_of(error)}): check that it is there"
            return replace(look, error=UnreadableDocument("unreadable", message))

    def _decide(self, looks: Sequence[Look]) -> Iterator[Shard | Outcome]:
        """Yield what becomes of documents, once what begins now is written down."""
        hashed = [look.document for look in looks if look.is_hashed]
        stored = self.store.stored_documents(hashed)
        claims = self.watched.claim([(each.doc_id, each.source) for each in hashed])
        claimed = dict(zip([each.source for each in hashed], claims, strict=True))
        decisions = [
            self._decide_one(look, stored.get(key_of(look.document)), claimed) for look in looks
        ]
        yield from self._write_down(decisions)

    def _decide_one(
        self, look: Look, stored: Document | None, claimed: Mapping[str, str]
    ) -> Begin | Outcome:
        """Decide about a document; `claimed` has the source of the same bytes by source."""
        document = look.document
        if self.context.is_job and stored and stored.status == "deleting":
            return _deleted(document)
        stored = stored if stored and stored.status != "deleting" else None
        if (first := claimed.get(document.source, document.source)) != document.source:
            return Outcome(document, message=f"the same bytes as {source_name(first)}")
        tasks = self.finder.tasks(stored) if stored and stored.pages else None
        if stored is not None and tasks == {} and _is_whole(stored):
            return self._unchanged(document, stored)
        if look.info is None:
            return self._refused(look, stored)
        document = replace(document, title=look.info.title, pages=look.info.pages)
        if tasks is None:
            tasks = {"page": list(range(1, look.info.pages + 1))}
        return self._begin(replace(look, document=document), stored, tasks)

    def _begin(self, look: Look, stored: Document | None, tasks: Tasks) -> Begin | Outcome:
        """Prepare a document whose pages are to be done; what is only known differently changes."""
        document = began = look.document
        if stored is not None:
            document = self._merged(document, stored)
            # Until its end the chunks that it has count: a resumed ingest must see their recipe.
            began = with_chunks_of(stored, document)
            if _facts(document) != _facts(stored):
                outcome = self._rewrite(stored, began)
                if outcome is not None:
                    return outcome
        return Begin(look, began, document, tasks, stored)

    def _refused(self, look: Look, stored: Document | None) -> Begin | Outcome:
        """Return the outcome of a document that cannot be ingested."""
        error = look.error or UnreadableDocument("unreadable", "it has no pages")
        status: Literal["skipped", "failed"] = "skipped" if error.skipped else "failed"
        message = without_folders(str(error), look.document.source)
        refused = replace(look.document, status=status, error=f"{error.reason}: {message}")
        if stored is not None and stored.pages:  # what there is of it can be found as before
            return Outcome(refused, error.reason, f"{message}; what is indexed of it stays")
        return Begin(replace(look, error=error), refused, refused, {}, stored)

    def _write_down(self, decisions: Sequence[Begin | Outcome]) -> Iterator[Shard | Outcome]:
        """Write down the documents that begin; yields outcomes and shards.

        What was deleted since it was looked up, or with its tenant, stays deleted.
        """
        begins = [each for each in decisions if isinstance(each, Begin)]
        now = self.store.stored_documents(each.stored for each in begins if each.stored)
        going = {
            key_of(each.document): each.began
            for each in begins
            if not _was_deleted(each.stored, now)
        }
        self.store.put_documents(going.values())
        if going and self._tenant_is_gone():
            for began in going.values():
                end_deletion(self.store, began)
            going = {}
        for decision in decisions:
            if isinstance(decision, Outcome):
                yield decision
            elif key_of(decision.document) in going:
                yield from self._shards(decision)
            else:
                yield _deleted(decision.document)

    def _shards(self, begin: Begin) -> Iterator[Shard | Outcome]:
        """Yield the shards of a document that was written down, or why there are none."""
        document, source, stamp = begin.document, begin.look.document.source, begin.look.stamp
        if begin.look.error is not None:
            message = document.error.removeprefix(f"{begin.look.error.reason}: ")
            yield Outcome(document, begin.look.error.reason, message)
            return
        is_new = begin.stored is None
        readings = {} if is_new else self.store.readings(document, columns_of(READINGS))
        todo = sum(map(len, begin.tasks.values()))
        size = self.context.settings.shard_pages
        if not todo:  # all is there, but it was never finished: one empty shard ends it
            yield Shard(document, source, "page", (), 0, stamp, is_new=False)
        for task, pages in begin.tasks.items():
            for start in range(0, len(pages), size):
                part = tuple(pages[start : start + size])
                known = {page: readings[page] for page in part if page in readings}
                yield Shard(document, source, task, part, todo, stamp, is_new, known)

    def _is_indexed(self, source: str) -> bool:
        documents = self.store.documents(Filter(tenant=self.context.tenant), source=source)
        return any(document.status != "deleting" for document in documents)

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
                mark("readings", reading_recipe(self.context.readings)),
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
        if not updated and not is_twin and (outcome := self._note(stored, document)) is not None:
            return outcome
        message = f"the same bytes as {source_name(merged.source)}" if is_twin else ""
        pages = replace(document, pages=stored.pages)
        return Outcome(pages, message=message, updated=updated, replaces=True)

    def _note(self, stored: Document, document: Document) -> Outcome | None:
        """Note the stamp and the readings of a document, so that the next ingest believes them.

        Returns an outcome where it was deleted meanwhile: it keeps its ingest's mark, by which a
        deletion that runs finds it.
        """
        marks = stored.marks
        for kind in NOTED:
            marks = replace_mark(marks, kind, find_mark(document.marks, kind))
        if set(marks) == set(stored.marks):
            return None
        noted = replace(stored, marks=marks)
        now = self.store.stored_documents([stored])
        if not _was_deleted(stored, now) and not self._tenant_is_gone():
            self.store.put_document(noted)
            if self.store.page_counts([noted])[key_of(noted)]:
                return None
            end_deletion(self.store, noted)
        return _deleted(document)

    def _rewrite(self, stored: Document, merged: Document) -> Outcome | None:
        """Rewrite what is known of a document; returns an outcome where it is not ours any more."""
        now = self.store.stored_documents([stored])
        if _was_deleted(stored, now) or self._tenant_is_gone():
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

    def _tenant_is_gone(self) -> bool:
        """True where the tenant was forgotten since the ingest began."""
        return tenant_mark(self.store, self.context.tenant) != self.context.tenant_mark


def cause_of(error: OSError) -> str:
    """Return what the system says, without the path that it may add."""
    return error.strerror or type(error).__name__


def _deleted(document: Document) -> Outcome:
    return Outcome(replace(document, status="skipped"), "deleted", DELETED)


def _was_deleted(stored: Document | None, now: Mapping[str, Document]) -> bool:
    """True where what was stored a moment ago is not any more; `now` has what is, by key."""
    if stored is None:
        return False
    document = now.get(key_of(stored))
    return document is None or document.status == "deleting"


def _is_whole(stored: Document) -> bool:
    return stored.status == "indexed" and not stored.error


def _facts(document: Document) -> tuple[object, ...]:
    return document.tags, document.metadata, document.source, document.title
