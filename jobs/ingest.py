"""Ingest: documents → pages → vectors → the store, as one streaming Ray Data pipeline.

list → CheckDocuments → (one shard a block) → RenderPages → EmbedPages → WritePages → the ledger.
An interrupted ingest goes on where it stopped: pages that are in the store are not shards again.
"""

import json
import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayTaskError

from cluster.core import Document, Filter, Scalar
from cluster.errors import InvalidInput, QuireError
from cluster.milvus import MilvusStore, open_store
from cluster.page_images import PageImages
from cluster.runtime import cluster_cpus, cluster_gpus, cpu_cores, ray_session
from cluster.schema import check_document_fields
from cluster.settings import Settings
from cluster.sources import list_sources
from jobs.forget import forget_document
from jobs.ledger import Ledger
from jobs.ocr import tesseract_available
from jobs.pdf import RenderTarget
from jobs.progress import progress_view
from jobs.report import IngestReport
from jobs.stages import CheckDocuments, EmbedPages, Job, RenderPages, WritePages
from models.options import EmbedderOptions
from models.registry import registry

EMBED_PAGES = 16  # pages in one call of an embedding worker
WRITE_PAGES = 64
CHECK_DOCUMENTS = 4  # documents in one unit of checking
WAITING_CPUS = 0.25  # what Ray reserves for a worker that mostly waits
WORKER_RESTARTS = 3


@dataclass(frozen=True)
class IngestRequest:
    """What to ingest, and what its rows shall carry."""

    paths: tuple[str, ...]
    pattern: str = ""
    tenant: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Scalar] = field(default_factory=dict)


def run(settings: Settings, request: IngestRequest) -> IngestReport:
    """Ingest documents; every input ends in a named state of the report.

    Raises NotFound, InvalidInput, FingerprintMismatch, ModelUnavailable or StoreUnavailable before
    any work begins.
    """
    started = time.perf_counter()
    sources = list_sources(request.paths, request.pattern)
    check_document_fields(request.tenant, request.tags, request.metadata)
    registry.find(settings.model)
    # Ray first: it forks, and does not come up in a process whose gRPC client already has threads.
    with progress_view() as view, ray_session(settings), open_store(settings) as store:
        job = _plan(settings, request, store)
        report = IngestReport(settings.collection, job.fingerprint)
        ledger = Ledger(report, sources, lambda document: _finish(settings, store, document))
        for event, work in _outcomes(sources, job):
            ledger.record(event, work)
            view.update(ledger)
        ledger.close()
        view.update(ledger)
    report.seconds = time.perf_counter() - started
    return report


def _plan(settings: Settings, request: IngestRequest, store: MilvusStore) -> Job:
    """What every stage has to know; opens the collection, so a mismatch ends the job here."""
    options = EmbedderOptions.from_settings(settings, has_gpu=cluster_gpus() > 0)
    fingerprint = options.fingerprint(options.resolved_precision)
    store.open_collection(fingerprint)
    spec = registry.find(settings.model)
    target = RenderTarget(
        min_pixels=spec.min_pixels,
        max_pixels=fingerprint.max_pixels,
        keep_pixels=settings.keep_pixels,
        ocr=_wants_ocr(settings),
        ocr_languages=settings.ocr_languages,
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
        threads=max(1, cpu_cores() // _embed_workers(settings)),
    )


def _wants_ocr(settings: Settings) -> bool:
    if settings.ocr == "on" and not tesseract_available():
        raise InvalidInput("ocr is on but Tesseract is not installed: install it, or set ocr off")
    return settings.ocr != "off" and tesseract_available()


def _embed_workers(settings: Settings) -> int:
    gpus = cluster_gpus()
    return settings.workers or max(1, int(gpus / settings.gpus_per_worker))


def _outcomes(sources: list[str], job: Job) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the pipeline; yields (event, work) as pages and documents end."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        for batch in _pipeline(sources, job).iter_batches(batch_size=None, prefetch_batches=0):
            for event, work in zip(batch["event"], batch["work"], strict=True):
                yield str(event), json.loads(str(work))
    except RayTaskError as error:
        # Ray wraps what a stage raised; the caller shall see our own error, as it was raised.
        raise (error.cause if isinstance(error.cause, QuireError) else error) from None


def _pipeline(sources: list[str], job: Job) -> Any:
    settings = job.settings
    embedders = _embed_workers(settings)
    renderers = settings.render_workers or max(1, cluster_cpus() - 1)
    on_gpu = cluster_gpus() > 0
    blocks = max(1, len(sources) // CHECK_DOCUMENTS)
    dataset = ray.data.from_items(
        [{"source": source} for source in sources], override_num_blocks=blocks
    )
    dataset = _stage(dataset, CheckDocuments, job, workers=max(1, renderers // 4), batch_size=1)
    # A block is one unit of work: a long document must not stay in the block of its check.
    dataset = dataset.repartition(target_num_rows_per_block=1)
    dataset = _stage(dataset, RenderPages, job, workers=renderers, batch_size=1, num_cpus=1)
    dataset = _stage(
        dataset,
        EmbedPages,
        job,
        workers=embedders,
        batch_size=EMBED_PAGES,
        num_cpus=WAITING_CPUS if on_gpu else 1,
        num_gpus=settings.gpus_per_worker if on_gpu else None,
    )
    # One writer: Milvus Lite asks for it, and one is far faster than the embedders.
    return _stage(dataset, WritePages, job, workers=1, batch_size=WRITE_PAGES)


def _stage(
    dataset: Any,
    stage: type,
    job: Job,
    *,
    workers: int,
    batch_size: int,
    num_cpus: float = WAITING_CPUS,
    num_gpus: float | None = None,
) -> Any:
    warnings.filterwarnings("ignore", message="`ray_remote_args_fn`")  # gone in Ray 2.64; no heir
    return dataset.map_batches(
        stage,
        fn_constructor_args=(job,),
        compute=ray.data.ActorPoolStrategy(size=workers),
        batch_size=batch_size,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        # Ray's own default is to restart for ever, even on work that kills every worker.
        ray_remote_args_fn=_bounded_restarts,
    )


def _bounded_restarts() -> dict[str, int]:
    return {"max_restarts": WORKER_RESTARTS, "max_task_retries": WORKER_RESTARTS}


def _finish(settings: Settings, store: MilvusStore, document: Document) -> list[str]:
    """Store a document's last word; forget what it replaces. Returns the ids that went."""
    store.put_document(document)
    if document.status != "indexed":
        return []
    images = PageImages(settings.page_images_url)
    older = store.documents(Filter(tenant=document.tenant), source=document.source)
    replaced = [other for other in older if other.doc_id != document.doc_id]
    return [forget_document(store, images, other).document for other in replaced]
