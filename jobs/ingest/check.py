"""The first stage of an ingest: sources → shards of pages that are not in the index yet."""

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
from cluster.ids import doc_id_of, sha256_of
from cluster.pages.files import PageFiles
from cluster.sources import local_copy, source_name, stamp_of, without_folders
from cluster.store.milvus import MilvusStore
from jobs.ingest.context import IngestContext
from jobs.ingest.readings import READINGS, columns_of
from jobs.ingest.rows import Batch, Outcome, Shard, to_texts
from jobs.rendering.client import Renderer, RenderLimits


class CheckDocuments:
    """Sources → shards of pages that are to be done, and outcomes of the other documents."""

    def __init__(self, context: IngestContext) -> None:
        self.context = context
        self.store = MilvusStore(context.address)
        self.files = PageFiles(context.settings.page_images_url)
        self.renderer = Renderer(RenderLimits.from_settings(context.settings))
        self._seen: dict[str, str] = {}  # source by doc_id, of what this worker has checked

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        for source in batch["source"]:
            yield {"row": to_texts(self._check(str(source)))}

    def _check(self, source: str) -> Iterator[Shard | Outcome]:
        # Known by its name until its bytes are read.
        document = self._document(source, hashlib.sha256(os.fsencode(source)).hexdigest())
        stored: Document | None = None
        if self.context.reindex and not self._is_indexed(source):
            deleted = replace(document, status="skipped")
            message = "it was deleted before it could be indexed again: ingest it as a new one"
            yield Outcome(deleted, "deleted", message)
            return
        try:
            stamp = stamp_of(source)  # before the bytes: a change in between must show
            with local_copy(source, self.context.settings.max_document_bytes) as path:
                if self._can_hash(path):
                    document = self._document(source, sha256_of(path))
                    stored = self.store.document(document.tenant, document.doc_id)
                    if (outcome := self._unchanged(document, stored)) is not None:
                        yield outcome
                        return
                info = self.renderer.check(path)
        except UnreadableDocument as error:
            yield self._refuse(document, error)
        except OSError as error:
            message = f"it cannot be read ({cause_of(error)}): check that it is there"
            yield self._refuse(document, UnreadableDocument("unreadable", message))
        else:
            document = replace(document, title=info.title, pages=info.pages)
            yield from self._split(document, stamp, is_new=stored is None)

    def _is_indexed(self, source: str) -> bool:
        return bool(self.store.documents(Filter(tenant=self.context.tenant), source=source))

    def _document(self, source: str, sha256: str) -> Document:
        return Document(
            doc_id=doc_id_of(sha256),
            sha256=sha256,
            source=source,
            tenant=self.context.tenant,
            tags=self.context.tags,
            metadata=self.context.metadata,
            fingerprint=self.context.fingerprint,
            time_ms=int(time.time() * 1000),
        )

    def _can_hash(self, path: str) -> bool:
        """False for a pipe, a device or a file over the limit: the renderer says which."""
        status = Path(path).stat()
        limit = self.context.settings.max_document_bytes
        return stat.S_ISREG(status.st_mode) and status.st_size <= limit

    def _unchanged(self, document: Document, stored: Document | None) -> Outcome | None:
        """The outcome of a document that is in the index as it is; None where there is work."""
        twin = self._seen.setdefault(document.doc_id, document.source)
        if twin != document.source:
            return Outcome(document, message=f"the same bytes as {source_name(twin)}")
        if self.context.reindex or stored is None or stored.status != "indexed" or stored.error:
            return None
        if (stored.tags, stored.metadata) != (document.tags, document.metadata):
            return None
        if stored.source != document.source and not _still_holds(stored):
            return None  # it moved, and every row names its source
        if self.context.readings and len(self._done(stored)) < stored.pages:
            return None  # it was indexed without what is wanted now
        is_twin = stored.source != document.source
        message = f"the same bytes as {source_name(stored.source)}" if is_twin else ""
        return Outcome(replace(document, pages=stored.pages), message=message)

    def _refuse(self, document: Document, error: UnreadableDocument) -> Outcome:
        status: Literal["skipped", "failed"] = "skipped" if error.skipped else "failed"
        message = without_folders(str(error), document.source)
        refused = replace(document, status=status, error=f"{error.reason}: {message}")
        self.store.put_document(refused)
        return Outcome(refused, error.reason, message)

    def _split(self, document: Document, stamp: str, *, is_new: bool) -> Iterator[Shard]:
        present = set() if self.context.reindex else self._done(document)
        readings = {} if is_new else self.store.readings(document, columns_of(READINGS))
        self.store.put_document(document)
        missing = [page for page in range(1, document.pages + 1) if page not in present]
        size = self.context.settings.shard_pages
        # Where no page is missing but the document was never finished, one empty shard ends it.
        for start in range(0, max(1, len(missing)), size):
            pages = tuple(missing[start : start + size])
            known = {page: readings[page] for page in pages if page in readings}
            yield Shard(document, pages, len(missing), stamp, is_new, known)

    def _done(self, document: Document) -> set[int]:
        """Return the pages that are in the index with everything that this ingest would write."""
        present = self.store.pages_present(document)
        for reading in self.context.readings:
            present &= reading.done(document, self.store, self.files)
        return present


def cause_of(error: OSError) -> str:
    """Return what the system says, without the path that it may add."""
    return error.strerror or type(error).__name__


def _still_holds(stored: Document) -> bool:
    """True while the file that a document was ingested from has the same bytes.

    Always False for a URL, which is not fetched again.
    """
    try:
        return "://" not in stored.source and sha256_of(stored.source) == stored.sha256
    except OSError:
        return False
