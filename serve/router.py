"""The router: one process that knows the index and asks the models, wherever they run.

What it can do is here; how HTTP asks for it is in serve/web/.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import IO, Any, TypeVar

import numpy as np

from cluster.core import Document, DocumentStatus, Filter, Hit, Page, Query
from cluster.deployments import DeploymentSpec
from cluster.errors import InvalidInput, NotFound, QuireError, StoreUnavailable
from cluster.metrics import service_metrics
from cluster.pages.files import PageFiles, PageKey, vectors_kind
from cluster.settings import Settings
from cluster.store.client import SESSION
from cluster.store.connection import StoreConnection
from cluster.store.milvus import MilvusStore
from jobs.change import change_document
from jobs.forget import Forgetter, RemovedDocument
from jobs.journal import Job, JobRequest
from jobs.uploads import Uploads
from models.evidence.finder import EvidenceFinder, MethodAsked
from models.evidence.regions import Evidence, of_contributions
from models.inputs import MultimodalInput
from models.ocr_quality.predictor import QualityPrediction
from models.retrieval.retriever import FirstStage, Found, Retriever, SecondStage
from serve.auth.keys import KeyRing
from serve.deployments.embedder import Embedded
from serve.deployments.handles import (
    EmbedderHandle,
    Handle,
    LateInteractionHandle,
    QualityHandle,
    RerankerHandle,
)
from serve.deployments.models import ServedModels
from serve.deployments.reranker import Scored
from serve.logs import log_as_service
from serve.tracing import Trace

T = TypeVar("T")
Collections = Sequence[str] | None  # that a caller may use beside our own; None: all
READY_TIMEOUT_S = 2.0
JOB_TIMEOUT_S = 10.0
STORE_THREADS = 32
TRANSFER_THREADS = 8  # whole documents in and out, for minutes
PAGE_FILE_THREADS = 16  # page images that are read: they wait for a disk or an object store
IMAGE_THREADS = 8  # images of requests and answers that are decoded and drawn
MAX_COLLECTIONS = 64  # beside our own, that are kept at hand
SECONDS_READY = 5.0  # how long a good answer of a model is believed


class Router:
    """One replica of the router; methods may be called at the same time."""

    def __init__(
        self,
        settings: Settings,
        models: ServedModels,
        specs: Sequence[DeploymentSpec],
        handles: Mapping[str, Any],
        indexer: Any,
        *,
        is_local: bool,
    ) -> None:
        log_as_service()
        self.settings = settings
        self.is_local = is_local
        self.models = models
        self.trace = Trace("quire-router", settings.otlp_endpoint)
        open_to_all = is_local or settings.allow_anonymous
        self.keys = None if open_to_all else KeyRing(settings.keys_path)
        self._fingerprint = models.embedder.fingerprint(models.embedder.resolved_precision)
        self._specs = specs
        self._deployments = {spec.name: Handle(spec.title, handles[spec.name]) for spec in specs}
        self._embedder = EmbedderHandle("embedder", handles["embedder"])
        self._reranker = RerankerHandle("reranker", handles["reranker"])
        self._late = LateInteractionHandle("late interaction", handles["late_interaction"])
        self._quality = QualityHandle("quality predictor", handles["quality"])
        self._indexer = Handle("indexer", indexer)
        self._link = StoreConnection(settings)
        self._images = PageFiles.from_settings(settings)
        self._uploads = Uploads.from_settings(settings)
        # Apart, so that neither uploads nor drawing hold up the pictures of a search.
        self._transfers = ThreadPoolExecutor(TRANSFER_THREADS, thread_name_prefix="transfers")
        self._page_reads = ThreadPoolExecutor(PAGE_FILE_THREADS, thread_name_prefix="page-files")
        self._drawing = ThreadPoolExecutor(IMAGE_THREADS, thread_name_prefix="images")
        self._ready_until: dict[str, float] = {}
        self._store_pool: ThreadPoolExecutor | None = None
        self._opened: MilvusStore | None = None  # as the link gave it
        self._checked: MilvusStore | None = None  # the same, at our collection
        self._others: dict[str, Router] = {}  # by collection
        self._owns_link = True

    async def check_health(self) -> None:
        """Ray Serve calls this before the first request and every few seconds."""
        if self._store_pool is None:  # calls of Milvus wait in the loop's default threads
            self._store_pool = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
            asyncio.get_running_loop().set_default_executor(self._store_pool)

    async def in_background(self, work: Callable[..., T], *args: Any) -> T:
        """Work on images, on threads of its own: no search waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._drawing, work, *args)

    async def transfer(self, work: Callable[..., T], *args: Any) -> T:
        """Move a whole document in or out, on threads of its own: no picture waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._transfers, work, *args)

    async def _page_file(self, tenant: str, doc_id: str, number: int) -> bytes:
        """Read the JPEG of a page. Raises NotFound."""
        return await asyncio.get_running_loop().run_in_executor(
            self._page_reads, self._images.get, tenant, doc_id, number
        )

    def close(self) -> None:
        """Leave the store."""
        self._link.close()

    def __del__(self) -> None:
        if self._owns_link:
            self.close()

    def at(self, collection: str) -> "Router":
        """Return the same router over another collection of the store."""
        if collection == self.settings.collection:
            return self
        if collection not in self._others:
            other = copy(self)
            other._owns_link = False
            other.settings = self.settings.model_copy(update={"collection": collection})
            other._images = PageFiles.from_settings(other.settings)
            other._uploads = Uploads.from_settings(other.settings)
            other._opened = other._checked = None
            if len(self._others) >= MAX_COLLECTIONS:  # names that callers make up
                self._others.clear()
            self._others[collection] = other
        return self._others[collection]

    def store(self) -> MilvusStore:
        """Return the open store, whose vectors are of our embedder.

        Raises StoreUnavailable or FingerprintMismatch, NotFound where a request names a collection
        that is not there.
        """
        opened = self._link.store()
        if opened is not self._opened or self._checked is None:  # opened again
            is_own = opened.name == self.settings.collection
            store = opened if is_own else opened.collection(self.settings.collection)
            if not is_own and store.stored() is None:
                raise NotFound(f"there is no collection {store.name!r}")
            store.check_fingerprint(self._fingerprint)
            self._opened, self._checked = opened, store
        return self._checked

    async def search(self, query: Query, settings: Settings, deadline: float) -> Found:
        """The best pages. Raises InvalidInput, Overloaded, StoreUnavailable and their like."""

        async def embed(item: MultimodalInput) -> np.ndarray:
            with self.trace.span("embed"):
                embedded = await self._embedder.embed([item], _left(deadline))
            vector: np.ndarray = embedded.vectors[0]
            return vector

        async def score(question: MultimodalInput, pages: Sequence[MultimodalInput]) -> np.ndarray:
            with self.trace.span("rerank", candidates=len(pages)):
                scored = await self._reranker.score(question, pages, _left(deadline))
            return scored.scores

        async def match(question: MultimodalInput, hits: Sequence[Hit]) -> np.ndarray:
            pages = [PageKey.of(hit) for hit in hits]
            with self.trace.span("match", candidates=len(pages)):
                return await self._late.match(
                    question, pages, self.settings.collection, _left(deadline)
                )

        retriever = Retriever(
            self.store,
            FirstStage(self.models.embedder_spec, embed),
            SecondStage(self.models.reranker_spec, score, self._images),
            match,
        )
        async with asyncio.timeout(_left(deadline)):
            result = await self._watched(retriever.search(query, settings))
        for stage, seconds in result.seconds.items():
            service_metrics().stage_seconds.observe(seconds, {"stage": stage})
        return result

    async def embed(self, items: Sequence[MultimodalInput], deadline: float) -> Embedded:
        """Vectors of inputs. Raises InvalidInput, Overloaded and their like."""
        return await self._embedder.embed(items, _left(deadline))

    async def rerank(
        self, query: MultimodalInput, documents: Sequence[MultimodalInput], deadline: float
    ) -> Scored:
        """P("yes") of each document. Raises InvalidInput, Overloaded and their like."""
        return await self._reranker.score(query, documents, _left(deadline))

    async def page(self, tenant: str, doc_id: str, number: int) -> tuple[Page, int]:
        """Return a page, and how many its document has. Raises NotFound."""

        def look() -> tuple[Page | None, Document | None]:
            store = self.store()
            return store.client.side_by_side(
                lambda: store.page(tenant, doc_id, number),
                lambda: store.document(tenant, doc_id, SESSION),
            )

        page, document = await self._watched(asyncio.to_thread(look))
        if page is None:
            raise NotFound(f"there is no page {number} of document {doc_id}")
        return page, document.pages if document else page.page

    async def page_image(self, tenant: str, doc_id: str, number: int) -> bytes:
        """Return the JPEG of a page that is in the index. Raises NotFound."""
        known = await self._watched(
            asyncio.to_thread(lambda: self.store().has_page(tenant, doc_id, number))
        )
        if not known:  # what was deleted is gone, whatever is left of it
            raise NotFound(f"there is no page {number} of document {doc_id}")
        return await self._page_file(tenant, doc_id, number)

    async def evidence(
        self,
        tenant: str,
        doc_id: str,
        number: int,
        method: MethodAsked,
        text: str,
        deadline: float,
    ) -> tuple[Evidence, bytes]:
        """Find where the answer is on a page, and its JPEG. Raises NotFound and its like."""
        jpeg = await self.page_image(tenant, doc_id, number)

        async def late(text: str, page: PageKey) -> Evidence:
            return await self._late.evidence(text, page, self.settings.collection, _left(deadline))

        async def states(text: str, jpeg: bytes) -> np.ndarray:
            question = MultimodalInput(text=text)
            return await self._embedder.similarities(question, jpeg, _left(deadline))

        spec = self.models.late_interaction_spec
        kind = vectors_kind(spec.name, spec.revision)
        finder = EvidenceFinder(self._images, kind, late, states)
        with self.trace.span("evidence", method=method):
            evidence = await finder.find_evidence(
                method, text, PageKey(tenant, doc_id, number), jpeg
            )
        return evidence, jpeg

    async def quality(self, images: Sequence[bytes], deadline: float) -> list[QualityPrediction]:
        """Return the errors that OCR would make. Raises InvalidInput, Overloaded and their like."""
        with self.trace.span("quality", pages=len(images)):
            return await self._quality.predict(images, _left(deadline))

    async def page_quality(
        self, tenant: str, doc_id: str, number: int, deadline: float
    ) -> tuple[Page, Evidence, bytes]:
        """Return a page, what makes it hard to read, and its JPEG. Raises NotFound and its like."""
        page, _ = await self.page(tenant, doc_id, number)
        jpeg = await self._page_file(tenant, doc_id, number)
        attribution = await self._quality.attribute(jpeg, _left(deadline))
        return page, of_contributions(attribution.contribution), jpeg

    async def documents(
        self, wanted: Filter, status: DocumentStatus | None, word: str, limit: int, offset: int
    ) -> tuple[list[Document], int]:
        """Return a page of the documents that pass, newest first, and how many there are.

        Raises InvalidInput.
        """

        def look() -> tuple[list[Document], int]:
            return self.store().documents_page(
                wanted, status=status, word=word, limit=limit, offset=offset
            )

        return await self._watched(asyncio.to_thread(look))

    async def document(self, tenant: str, doc_id: str) -> Document:
        """Return a tenant's document. Raises NotFound."""
        document = await self._watched(
            asyncio.to_thread(lambda: self.store().document(tenant, doc_id, SESSION))
        )
        if document is None:
            raise NotFound(f"there is no document {doc_id}")
        return document

    async def forget(self, tenant: str, doc_id: str) -> RemovedDocument:
        """Remove a document: rows, page images and the uploaded file. Raises NotFound."""
        document = await self.document(tenant, doc_id)

        def remove() -> RemovedDocument:
            return Forgetter(self.settings, self.store()).forget(document)

        return await self._watched(asyncio.to_thread(remove))

    async def keep_upload(self, tenant: str, name: str, file: IO[bytes]) -> str:
        """Keep an uploaded file; returns its source. Raises InvalidInput."""
        return await self.transfer(self._uploads.put, tenant, name, file)

    async def change(self, tenant: str, doc_id: str, changes: Mapping[str, Any]) -> Document:
        """Change title, tags or metadata of a document, embedding nothing.

        Raises NotFound, or InvalidInput where it is being indexed or removed, or a value is wrong.
        """
        return await self._watched(
            asyncio.to_thread(lambda: change_document(self.store(), tenant, doc_id, changes))
        )

    async def namesakes(self, tenant: str, names: Sequence[str]) -> list[Document]:
        """Return the documents of a tenant that have one of these file names."""

        def look() -> list[Document]:
            store, own = self.store(), Filter(tenant=tenant)
            return [each for name in names for each in store.documents(own, name=name)]

        return await self._watched(asyncio.to_thread(look))

    async def jobs(
        self, tenant: str | None, collections: Collections, limit: int, offset: int
    ) -> tuple[list[Job], int]:
        """Return jobs of a tenant and collections, the newest first, and a count; None sees all."""
        listed: tuple[list[Job], int] = await self._indexer.call(
            "list_jobs", tenant, collections, limit, offset, timeout_s=JOB_TIMEOUT_S
        )
        return listed

    async def cancel(self, tenant: str | None, collections: Collections, job_id: str) -> Job:
        """Stop a job that waits or runs. Raises NotFound."""
        await self.job(tenant, collections, job_id)
        job: Job | None = await self._indexer.call("cancel", job_id, timeout_s=JOB_TIMEOUT_S)
        return self._own(job, tenant, collections, job_id)

    async def submit(self, request: JobRequest) -> Job:
        """Queue a job that indexes stored files."""
        job_id = uuid.uuid4().hex  # named here, so that to ask twice is to ask once
        job: Job = await self._indexer.call("submit", job_id, request, timeout_s=JOB_TIMEOUT_S)
        return job

    async def job(self, tenant: str | None, collections: Collections, job_id: str) -> Job:
        """Return a job of this tenant and these collections; None sees all. Raises NotFound."""
        job: Job | None = await self._indexer.call("job", job_id, timeout_s=JOB_TIMEOUT_S)
        return self._own(job, tenant, collections, job_id)

    async def next_version(
        self, tenant: str | None, collections: Collections, job_id: str, seen: int, wait_s: float
    ) -> Job:
        """Return the job once it is newer than version `seen`, or as it is after `wait_s`."""
        job: Job | None = await self._indexer.call(
            "next_version", job_id, seen, wait_s, timeout_s=wait_s + JOB_TIMEOUT_S
        )
        return self._own(job, tenant, collections, job_id)

    async def readiness(self) -> dict[str, str]:
        """Return each part of the service: "ok", or what is wrong with it."""
        store, *models = await asyncio.gather(
            asyncio.to_thread(self._store_state), *map(self._model_state, self._specs)
        )
        names = (spec.name.replace("_", " ") for spec in self._specs)
        return {"store": store, **dict(zip(names, models, strict=True))}

    def _store_state(self) -> str:
        try:
            self.store()
        except QuireError as error:
            return str(error)
        return "ok"

    async def _model_state(self, spec: DeploymentSpec) -> str:
        # One that may sleep is not asked: that would wake it.
        if spec.may_sleep(self.settings) or self._ready_until.get(spec.name, 0) > time.monotonic():
            return "ok"
        try:
            await self._deployments[spec.name].call("ready", timeout_s=READY_TIMEOUT_S)
        except QuireError as error:
            return str(error)
        self._ready_until[spec.name] = time.monotonic() + SECONDS_READY
        return "ok"

    async def _watched(self, work: Awaitable[T]) -> T:
        """Wait for work with the store; where that is down the link is told at once."""
        try:
            return await work
        except StoreUnavailable:
            self._link.failed()
            raise

    def _own(
        self, job: Job | None, tenant: str | None, collections: Collections, job_id: str
    ) -> Job:
        if job is None or not job.request.is_for(tenant, collections, self.settings.collection):
            raise NotFound(f"there is no job {job_id}")
        return job


def _left(deadline: float) -> float:
    """Seconds until a deadline (time.monotonic)."""
    return max(0.001, deadline - time.monotonic())


def parse_page_id(text: str) -> tuple[str, int]:
    """doc_id and page of a page id. Raises InvalidInput."""
    doc_id, colon, page = text.partition(":")
    if not colon or not page.isascii() or not page.isdigit() or not 0 < int(page) < 2**31:
        raise InvalidInput(f"{text[:80]!r} is not a page id: expected {{document id}}:{{page}}")
    return doc_id, int(page)
