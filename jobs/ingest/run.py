"""Ingest: documents → pages → vectors → the store, as one streaming Ray Data pipeline.

list → CheckDocuments → (one shard a block) → RenderPages → EmbedPages → WritePages → the ledger.
An interrupted ingest goes on where it stopped: pages that are in the store are not shards again.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from cluster.core import Document, Filter, Scalar
from cluster.errors import InvalidInput
from cluster.pages.files import PageFiles
from cluster.runtime import (
    cluster_cpus,
    cluster_gpus,
    cluster_nodes,
    cpu_cores,
    free_cpus,
    free_gpus,
    on_kind,
    ray_session,
    require_gpus,
)
from cluster.settings import Settings
from cluster.sources import list_sources
from cluster.store.milvus import MilvusStore, open_store
from cluster.store.schema import check_document_fields
from jobs.forget import forget_document
from jobs.ingest.ledger import Ledger
from jobs.ingest.readings import Reading
from jobs.ingest.report import IngestReport
from jobs.ingest.stages import CheckDocuments, EmbedPages, Job, RenderPages, WritePages
from jobs.progress import ProgressView, progress_view
from jobs.ray_data import WAITING_CPUS, batches, stage
from jobs.rendering.client import RenderTarget
from jobs.rendering.ocr import tesseract_available
from models.options import EmbedderOptions
from models.registry import registry

EMBED_PAGES = 16  # pages in one call of an embedding worker
WRITE_PAGES = 64
MOST_CHECKERS = 4
CHECK_DOCUMENTS = 4  # documents in one unit of checking


@dataclass(frozen=True)
class IngestRequest:
    """What to ingest, and what its rows shall carry."""

    paths: tuple[str, ...]
    pattern: str = ""
    tenant: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Scalar] = field(default_factory=dict)
    again: bool = False  # also what is in the index already, but nothing that is not


def run(
    settings: Settings, request: IngestRequest, view: ProgressView | None = None
) -> IngestReport:
    """Ingest documents; every input ends in a named state of the report.

    `view` shows the progress; by default on standard error.

    Raises NotFound, InvalidInput or FingerprintMismatch before any work begins; ModelUnavailable,
    OutOfMemory and StoreUnavailable also in its midst, when a report of what was done is saved all
    the same.
    """
    started = time.perf_counter()
    sources = list_sources(request.paths, request.pattern)
    check_document_fields(request.tenant, request.tags, request.metadata)
    registry.find(settings.model)
    # Ray first: it forks, and does not come up in a process whose gRPC client already has threads.
    with (
        view or progress_view() as shown,
        ray_session(settings),
        open_store(settings) as store,
    ):
        job = _plan(settings, request, store)
        report = IngestReport(settings.collection, job.fingerprint)
        ledger = Ledger(report, sources, StoreShelf(settings, store))
        try:
            for event, work in _outcomes(sources, job):
                ledger.record(event, work)
                shown.update(ledger)
        finally:
            ledger.close()
            shown.update(ledger)
            report.seconds = time.perf_counter() - started
            report.file = str(report.save(settings.data_dir / "reports"))
    return report


def _plan(settings: Settings, request: IngestRequest, store: MilvusStore) -> Job:
    """What every stage has to know; opens the collection, so a mismatch ends the job here."""
    if settings.gpu_kind or settings.gpu_memory_fraction:  # made for GPUs: a plan's
        require_gpus(settings.gpus_per_worker, settings.gpu_kind, "this ingest")
    if cluster_gpus() and free_gpus() < settings.gpus_per_worker:
        raise InvalidInput(
            f"gpus_per_worker is {settings.gpus_per_worker:g} and {free_gpus():g} of Ray's "
            f"{cluster_gpus():g} GPUs are free: lower it, or the share of those who hold them"
        )
    if cluster_nodes() > 1 and (settings.is_embedded or "://" not in settings.page_images_url):
        raise InvalidInput(
            "on a cluster every machine must reach the store: set `store` to a Milvus server, and "
            "`page_images` to a URL (s3://…, or file://… for a shared folder)"
        )
    options = EmbedderOptions.from_settings(settings, has_gpu=cluster_gpus() > 0)
    fingerprint = options.fingerprint(options.resolved_precision)
    store.open_collection(fingerprint)
    spec = registry.find(settings.model)
    reading = Reading.from_settings(settings)
    target = RenderTarget(
        min_pixels=spec.min_pixels,
        max_pixels=fingerprint.max_pixels,
        keep_pixels=settings.keep_pixels,
        ocr=_wants_ocr(settings),
        ocr_languages=settings.ocr_languages,
        scan=bool(reading and reading.scan),
    )
    return Job(
        settings=settings,
        address=store.address,
        fingerprint=str(fingerprint),
        dimension=fingerprint.dimension,
        options=options,
        target=target,
        page_chars=spec.page_chars,
        tenant=request.tenant,
        tags=request.tags,
        metadata=request.metadata,
        again=request.again,
        threads=max(1, cpu_cores() // _embed_workers(settings)),
        reading=reading,
    )


def _wants_ocr(settings: Settings) -> bool:
    if settings.ocr == "on" and not tesseract_available():
        raise InvalidInput("ocr is on but Tesseract is not installed: install it, or set ocr off")
    return settings.ocr != "off" and tesseract_available()


def _embed_workers(settings: Settings) -> int:
    """Embedding workers: as many as asked for, and never more than the GPUs can hold."""
    if not cluster_gpus():
        return settings.workers or 1
    most = int(free_gpus() / settings.gpus_per_worker)
    return min(settings.workers or most, most)


def _render_workers(settings: Settings, checkers: int, embed_cpus: float) -> int:
    """Rendering workers: as many as asked for, and never more than can be placed.

    With one stage that is never placed, the pipeline would wait for ever. One CPU stays free for
    Ray's own splitting of blocks. Raises InvalidInput.
    """
    fit = int(free_cpus() - 1 - (checkers + 1) * WAITING_CPUS - embed_cpus)
    if fit < 1:
        raise InvalidInput("this Ray has too few CPUs for one worker of each stage: add CPUs")
    return min(settings.render_workers or max(1, cluster_cpus() - 1), fit)


def _outcomes(sources: list[str], job: Job) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the pipeline; yields (event, work) as pages and documents end."""
    for batch in batches(lambda: _pipeline(sources, job)):
        for event, work in zip(batch["event"], batch["work"], strict=True):
            yield str(event), json.loads(str(work))


def _pipeline(sources: list[str], job: Job) -> Any:
    settings = job.settings
    embedders = _embed_workers(settings)
    on_gpu = cluster_gpus() > 0
    embed_cpus = WAITING_CPUS if on_gpu else 1
    checkers = max(1, min(MOST_CHECKERS, cluster_cpus() // 8))
    renderers = _render_workers(settings, checkers, embedders * embed_cpus)
    blocks = max(1, len(sources) // CHECK_DOCUMENTS)
    dataset = ray.data.from_items(
        [{"source": source} for source in sources], override_num_blocks=blocks
    )
    dataset = stage(dataset, CheckDocuments, job, workers=checkers, batch_size=1)
    # A block is one unit of work: a long document must not stay in the block of its check.
    dataset = dataset.repartition(target_num_rows_per_block=1)
    dataset = stage(dataset, RenderPages, job, workers=renderers, batch_size=1, num_cpus=1)
    dataset = stage(
        dataset,
        EmbedPages,
        job,
        workers=embedders,
        batch_size=EMBED_PAGES,
        num_cpus=embed_cpus,
        num_gpus=settings.gpus_per_worker if on_gpu else None,
        **on_kind(settings.gpu_kind),
    )
    # One writer: Milvus Lite asks for it, and one is far faster than the embedders.
    return stage(dataset, WritePages, job, workers=1, batch_size=WRITE_PAGES)


class StoreShelf:
    """The ledger's last words on documents, in the store."""

    def __init__(self, settings: Settings, store: MilvusStore) -> None:
        self._store = store
        self._images = PageFiles(settings.page_images_url)

    def finish(self, document: Document, pages: int) -> list[str]:
        """Forget what a document replaces, then store it; returns the ids that went."""
        if document.status != "indexed":
            self._store.put_document(document)
            return []
        found = self._store.count_pages(Filter(tenant=document.tenant, doc_ids=(document.doc_id,)))
        if found < pages:  # forgotten meanwhile, or lost by the server
            gone = f"{pages - found} pages are gone again: ingest it again"
            document = replace(document, error=f"{document.error}; {gone}".strip("; "))
        # Replaced first: killed in between, the document counts as unfinished.
        replaced = self.keep(document)
        self._store.put_document(document)
        return replaced

    def keep(self, document: Document) -> list[str]:
        """Forget older documents of the same source; returns their ids."""
        same = self._store.documents(Filter(tenant=document.tenant), source=document.source)
        return [
            forget_document(self._store, self._images, each).document
            for each in same
            if each.doc_id != document.doc_id and each.time_ms <= document.time_ms
        ]
