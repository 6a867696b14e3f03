"""The Ray Data stages of an ingest. Between them travel rows of plain values and bytes.

A row is a dict of one schema for each arrow: sources → `Work` → `PageWork` → vectors → outcomes.
Hostile bytes are parsed only in the renderer's subprocess; a page that fails becomes an outcome
and passes through the stages behind it untouched.
"""

import hashlib
import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cluster.core import Document, Filter, Row, Scalar, doc_id_of, sha256_of
from cluster.errors import InvalidInput, NotFound, QuireError, UnreadableDocument
from cluster.pages.files import WORDS, PageFiles, PageKey
from cluster.pages.vectors import from_bytes
from cluster.settings import Settings
from cluster.sources import local_copy, stamp_of
from cluster.store.milvus import MilvusStore, StoreAddress
from cluster.text.chunks import chunk_text
from jobs.ingest.readings import PageReading, Reading
from jobs.rendering.client import Renderer, RenderLimits, RenderTarget
from models.options import EmbedderOptions

Batch = dict[str, Any]
Event = Literal["work", "unchanged", "refused", "page"]
_FOLDERS = re.compile(r"(?<![^\s\"'`(\[=])([a-z][a-z0-9+.-]*:/)?/[^\s\"'`]*/")


@dataclass(frozen=True)
class Job:
    """What every stage of one ingest has to know."""

    settings: Settings
    address: StoreAddress
    fingerprint: str
    dimension: int
    options: EmbedderOptions
    target: RenderTarget
    page_chars: int
    tenant: str
    tags: tuple[str, ...]
    metadata: dict[str, Scalar]
    again: bool  # also documents that are in the index as they are; but none that is not
    threads: int
    reading: Reading | None  # what is read of pages beside their vectors


class CheckDocuments:
    """Sources → shards of pages that are not in the index yet, and outcomes of the others."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.store = MilvusStore(job.address)
        self.files = PageFiles(job.settings.page_images_url)
        self.renderer = Renderer(render_limits(job.settings))
        self._seen: dict[str, str] = {}  # the source of each document of this ingest

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        for source in batch["source"]:
            rows = list(self._check(str(source)))
            yield {name: [row[name] for row in rows] for name in rows[0]}

    def _check(self, source: str) -> Iterator[dict[str, str]]:
        # Known by its name until its bytes are read.
        document = self._document(source, hashlib.sha256(os.fsencode(source)).hexdigest())
        held: Document | None = None
        if self.job.again and not self._is_held(source):
            deleted = replace(document, status="skipped")
            message = "it was deleted before it could be indexed again: ingest it anew"
            yield _work("refused", deleted, "deleted", message)
            return
        try:
            stamp = stamp_of(source)  # before the bytes: a change in between must show
            with local_copy(source, self.job.settings.max_document_bytes) as path:
                if self._may_hash(path):
                    document = self._document(source, sha256_of(path))
                    held = self.store.document(document.tenant, document.doc_id)
                    if (outcome := self._unchanged(document, held)) is not None:
                        yield outcome
                        return
                info = self.renderer.check(path)
        except UnreadableDocument as error:
            yield self._refuse(document, error)
        except OSError as error:
            message = f"it cannot be read ({_why(error)}): check that it is there"
            yield self._refuse(document, UnreadableDocument("unreadable", message))
        else:
            document = replace(document, title=info.title, pages=info.pages)
            yield from self._split(document, stamp, is_new=held is None)

    def _is_held(self, source: str) -> bool:
        return bool(self.store.documents(Filter(tenant=self.job.tenant), source=source))

    def _document(self, source: str, sha256: str) -> Document:
        return Document(
            doc_id=doc_id_of(sha256),
            sha256=sha256,
            source=source,
            tenant=self.job.tenant,
            tags=self.job.tags,
            metadata=self.job.metadata,
            fingerprint=self.job.fingerprint,
            time_ms=int(time.time() * 1000),
        )

    def _may_hash(self, path: str) -> bool:
        """False for a pipe, a device or a file over the limit: the renderer says which."""
        found = Path(path).stat()
        return stat.S_ISREG(found.st_mode) and found.st_size <= self.job.settings.max_document_bytes

    def _unchanged(self, document: Document, held: Document | None) -> dict[str, str] | None:
        """The outcome of a document that is in the index as it is; None where there is work."""
        twin = self._seen.setdefault(document.doc_id, document.source)
        if twin != document.source:
            return _work("unchanged", document, "", f"the same bytes as {_name(twin)}")
        if self.job.again or held is None or held.status != "indexed" or held.error:
            return None
        if (held.tags, held.metadata) != (document.tags, document.metadata):
            return None
        if held.source != document.source and not _still_holds(held):
            return None  # it moved, and every row names its source
        if self.job.reading and len(self._done(held)) < held.pages:
            return None  # it was indexed without what is wanted now
        note = "" if held.source == document.source else f"the same bytes as {_name(held.source)}"
        return _work("unchanged", replace(document, pages=held.pages), "", note)

    def _refuse(self, document: Document, error: UnreadableDocument) -> dict[str, str]:
        status: Literal["skipped", "failed"] = "skipped" if error.skipped else "failed"
        message = names_only(str(error), document.source)
        refused = replace(document, status=status, error=f"{error.reason}: {message}")
        self.store.put_document(refused)
        return _work("refused", refused, error.reason, message)

    def _split(self, document: Document, stamp: str, *, is_new: bool) -> Iterator[dict[str, str]]:
        present = set() if self.job.again else self._done(document)
        held_cer = {} if is_new else self.store.expected_cers(document)
        self.store.put_document(document)
        missing = [page for page in range(1, document.pages + 1) if page not in present]
        size = self.job.settings.shard_pages
        # A document whose pages are all there but was never finished still needs its last word.
        for start in range(0, max(1, len(missing)), size):
            pages = missing[start : start + size]
            yield _work(
                "work",
                document,
                pages=pages,
                todo=len(missing),
                stamp=stamp,
                is_new=is_new,
                held_cer={page: held_cer[page] for page in pages if page in held_cer},
            )

    def _done(self, document: Document) -> set[int]:
        """The pages that are in the index with everything that this ingest would write."""
        reading = self.job.reading
        present = self.store.pages_present(document, read=bool(reading and reading.quality))
        if reading and reading.vectors:
            present &= self._with_vectors(document, reading)
        return present

    def _with_vectors(self, document: Document, reading: Reading) -> set[int]:
        """The pages with multi-vectors as they are wanted now; a document's are all of one kind."""
        kept = self.files.pages(document, reading.vectors)
        if not kept:
            return kept
        key = PageKey(document.tenant, document.doc_id, min(kept))
        try:
            recipe = from_bytes(self.files.get(*key, kind=reading.vectors)).recipe
        except (InvalidInput, NotFound):
            return set()
        return kept if recipe == reading.recipe else set()


class RenderPages:
    """Shards → rendered pages; their images and words are kept at once."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.renderer = Renderer(render_limits(job.settings))
        self.files = PageFiles(job.settings.page_images_url)
        self._copies = ExitStack()
        self._copied = ("", "")  # source and stamp of the document at hand
        self._path = ""

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        for event, text in zip(batch["event"], batch["work"], strict=True):
            work = json.loads(str(text))
            if event != "work" or not work["pages"]:
                yield _page_row(str(event), work)
                continue
            self.renderer.start_shard()
            try:
                path = self._local(work["document"]["source"], work["stamp"])
            except (OSError, UnreadableDocument) as error:
                why = _why(error) if isinstance(error, OSError) else error
                for page in work["pages"]:
                    yield _failed_page(work, page, "unreadable", f"{why}: ingest it again")
                continue
            for page in work["pages"]:
                yield self._render(path, work, page)

    def _local(self, source: str, stamp: str) -> str:
        """A local path of the document that was checked; a fetched copy serves all its shards."""
        if stamp_of(source) != stamp:
            raise UnreadableDocument("changed", "it changed while it was ingested")
        if self._copied != (source, stamp):
            self._copies.close()
            most_bytes = self.job.settings.max_document_bytes
            self._path = self._copies.enter_context(local_copy(source, most_bytes))
            self._copied = (source, stamp)
        return self._path

    def _render(self, path: str, work: dict[str, Any], page: int) -> Batch:
        document = work["document"]
        try:
            rendered = self.renderer.render(path, page, self.job.target)
        except UnreadableDocument as error:
            return _failed_page(work, page, error.reason, names_only(str(error), path))
        key = _key(document, page)
        self.files.put(*key, rendered.jpeg)
        self.files.put(*key, rendered.words, kind=WORDS)
        facts = {
            "page": page,
            "text": rendered.text,
            "ocr": rendered.ocr,
            "ocr_error": rendered.ocr_error,
            "render_s": rendered.render_s,
            "ocr_s": rendered.ocr_s,
            "width_px": rendered.jpeg_width,
            "height_px": rendered.jpeg_height,
            "expected_cer": work["held_cer"].get(str(page)),
            "shape": rendered.pixels.shape,
            "worker": f"{socket.gethostname()}:{os.getpid()}",
        }
        return _page_row("page", work | facts, rendered.pixels.tobytes(), rendered.scan)


class EmbedPages:
    """Rendered pages → vectors of each page and of its text's chunks, and what else is read.

    OutOfMemory is no fault of a page: it ends the ingest, and the next one does what is left.
    """

    def __init__(self, job: Job) -> None:
        from models.engine.budget import TokenBudget, limit_gpu_memory
        from models.engine.device import use_threads
        from models.qwen3_vl.embedder import Qwen3VLEmbedder

        use_threads(job.threads)
        limit_gpu_memory(job.settings.gpu_memory_fraction)  # of all models in this process
        self.job = job
        self._embedder: Qwen3VLEmbedder | QuireError
        self._reading: PageReading | None = None
        self._budgets: list[TokenBudget] = []
        try:
            self._embedder = Qwen3VLEmbedder(job.options)
            self._budgets.append(self._embedder.budget)
            if job.reading:
                self._reading = PageReading(job.reading, job.settings)
                self._budgets += self._reading.budgets
        except QuireError as error:
            # Ray turns what a constructor raises into "actor died": the first call raises it.
            self._embedder = error

    def __call__(self, batch: Batch) -> Batch:
        from models.inputs import MultimodalInput

        if isinstance(self._embedder, QuireError):
            raise self._embedder
        started, began = time.perf_counter(), time.time()
        pages = [json.loads(str(text)) for text in batch["work"]]
        if self._reading:
            self._read(self._reading, pages, batch)
        inputs: list[MultimodalInput] = []
        for page, pixels in zip(pages, batch["pixels"], strict=True):
            if not pixels or page["reason"]:
                continue
            image = np.frombuffer(pixels, np.uint8).reshape(page["shape"])
            text = page["text"][: self.job.page_chars]
            page["chunks"] = self._chunks(page["text"])
            inputs.append(MultimodalInput(text=text, images=(image,)))
            inputs += [MultimodalInput(text=chunk) for chunk in page["chunks"]]
        vectors = self._embedder.embed(inputs)
        seconds = (time.perf_counter() - started) / max(1, len(pages))
        halved = {budget.model: budget.tokens for budget in self._budgets if budget.halved}
        taken = 0
        payload = []
        for page in pages:
            count = 1 + len(page["chunks"]) if "chunks" in page else 0
            page["embed_s"] = seconds if count else 0.0
            page["embed_began"] = began
            page["halved"] = halved
            payload.append(vectors[taken : taken + count].tobytes())
            taken += count
        return {"event": batch["event"], "work": _texts(pages), "vectors": payload}

    def _read(self, reading: PageReading, pages: list[dict[str, Any]], batch: Batch) -> None:
        """Before the rows: a page that is in the index has the rest, one that fails has none."""
        rendered = [
            (page, _key(page["document"], page["page"]), scan)
            for page, pixels, scan in zip(pages, batch["pixels"], batch["scan"], strict=True)
            if pixels
        ]
        try:
            found = reading.read([key for _, key, _ in rendered], [scan for *_, scan in rendered])
        except (NotFound, InvalidInput):  # of one: which, shows when each is read by itself
            for page, key, scan in rendered:
                self._read_one(reading, page, key, scan)
            return
        for (page, _, _), cer in zip(rendered, found, strict=True):
            if cer is not None:
                page["expected_cer"] = cer

    def _read_one(
        self, reading: PageReading, page: dict[str, Any], key: PageKey, scan: bytes
    ) -> None:
        try:
            (cer,) = reading.read([key], [scan])
        except NotFound:
            page |= {"reason": "gone", "message": "it was forgotten while it was ingested"}
        except InvalidInput as error:
            page |= {"reason": "unreadable", "message": str(error)}
        else:
            if cer is not None:
                page["expected_cer"] = cer

    def _chunks(self, text: str) -> list[str]:
        settings = self.job.settings
        return chunk_text(text, chars=settings.chunk_chars, overlap=settings.chunk_overlap)


class WritePages:
    """Vectors → rows in the store; what comes out is the outcome of each page.

    Of a document that was there before, what an earlier ingest wrote and this one does not goes:
    chunks beyond those that a page has now, and every row of a page that now fails. The index
    holds what the document's last ingest could read; its report and its error name the rest.
    """

    def __init__(self, job: Job) -> None:
        self.store = MilvusStore(job.address)
        self.dimension = job.dimension

    def __call__(self, batch: Batch) -> Batch:
        started = time.perf_counter()
        pages = [json.loads(str(text)) for text in batch["work"]]
        rows: list[Row] = []
        for page, vectors in zip(pages, batch["vectors"], strict=True):
            if vectors:
                rows += self._rows(page, np.frombuffer(vectors, np.float32))
        self._trim(pages)  # first: where a page's own row is as it should be, so are its chunks
        self.store.write_rows(rows)
        seconds = (time.perf_counter() - started) / max(1, len(pages))
        for page in pages:
            page["write_s"] = seconds if "chunks" in page else 0.0
            for bulky in ("text", "chunks", "pages", "held_cer"):
                page.pop(bulky, None)
        return {"event": batch["event"], "work": _texts(pages)}

    def _trim(self, pages: list[dict[str, Any]]) -> None:
        kept: dict[str, dict[int, int]] = {}  # rows of each page, by document
        documents: dict[str, Document] = {}
        for page in pages:
            if "page" in page and not page["is_new"]:
                document = to_document(page["document"])
                documents[document.doc_id] = document
                rows = 1 + len(page["chunks"]) if "chunks" in page else 0
                kept.setdefault(document.doc_id, {})[page["page"]] = rows
        for doc_id, document in documents.items():
            self.store.trim_pages(document, kept[doc_id])

    def _rows(self, page: dict[str, Any], vectors: np.ndarray) -> list[Row]:
        document = to_document(page["document"])
        texts = [page["text"], *page["chunks"]]
        size = (page["width_px"], page["height_px"])
        cer = page["expected_cer"]
        # The page's own row comes last: where it is present, so are its chunks.
        return [
            Row(document, page["page"], chunk, text, vector, *size, expected_cer=cer)
            for chunk, (text, vector) in enumerate(
                zip(texts, vectors.reshape(-1, self.dimension), strict=True)
            )
        ][::-1]


def render_limits(settings: Settings) -> RenderLimits:
    """The renderer's limits as the settings have them."""
    return RenderLimits(
        page_timeout_s=settings.page_timeout_s,
        document_timeout_s=settings.document_timeout_s,
        memory_bytes=settings.render_memory_bytes,
        max_document_bytes=settings.max_document_bytes,
        max_pages=settings.max_document_pages,
        max_page_pixels=settings.max_image_pixels,
    )


def to_document(fields: dict[str, Any]) -> Document:
    """A document from its JSON fields."""
    return Document(**{**fields, "tags": tuple(fields["tags"])})


def names_only(text: str, *paths: str) -> str:
    """A message without folders: where files lie on a server is nobody's business."""
    for path in paths:
        text = text.replace(path, _name(path))
    return _FOLDERS.sub("", text)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _why(error: OSError) -> str:
    """What the system says, without the path that it may add."""
    return error.strerror or type(error).__name__


def _work(
    event: Event,
    document: Document,
    reason: str = "",
    message: str = "",
    pages: list[int] | None = None,
    todo: int = 0,
    stamp: str = "",
    is_new: bool = True,
    held_cer: dict[int, float] | None = None,
) -> dict[str, str]:
    work = {
        "document": asdict(document),
        "reason": reason,
        "message": message,
        "pages": pages or [],
        "todo": todo,
        "stamp": stamp,
        "is_new": is_new,
        "held_cer": held_cer or {},  # as predicted before: same bytes, same page
    }
    return {"event": event, "work": json.dumps(work)}


def _still_holds(held: Document) -> bool:
    """True while the file that a document was ingested from has the same bytes."""
    try:
        return "://" not in held.source and sha256_of(held.source) == held.sha256
    except OSError:
        return False


def _failed_page(work: dict[str, Any], page: int, reason: str, message: str) -> Batch:
    return _page_row("page", work | {"page": page, "reason": reason, "message": message})


def _page_row(event: str, work: dict[str, Any], pixels: bytes = b"", scan: bytes = b"") -> Batch:
    return {"event": [event], "work": _texts([work]), "pixels": [pixels], "scan": [scan]}


def _key(document: dict[str, Any], page: int) -> PageKey:
    return PageKey(document["tenant"], document["doc_id"], page)


def _texts(works: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(work) for work in works]
