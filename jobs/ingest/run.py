"""Ingest: documents → pages → vectors → the store, as one streaming Ray Data pipeline.

list → CheckDocuments → (one shard a block) → RenderPages → EmbedPages → WritePages → the ledger.
An interrupted ingest goes on where it stopped: pages that are in the store are not shards again.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray

from cluster.core import Scalar
from cluster.errors import InvalidInput
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
from jobs.ingest.check import CheckDocuments
from jobs.ingest.context import IngestContext
from jobs.ingest.embed import EmbedPages
from jobs.ingest.finish import DocumentFinisher
from jobs.ingest.ledger import Ledger
from jobs.ingest.readings import columns_of, wanted_readings
from jobs.ingest.render import RenderPages
from jobs.ingest.report import IngestReport
from jobs.ingest.rows import IngestRow, from_texts
from jobs.ingest.write import WritePages
from jobs.progress import ProgressView, progress_view
from jobs.ray_data import WAITING_CPUS, batches, stage
from jobs.rendering.client import RenderTarget
from jobs.rendering.ocr import tesseract_available
from models.options import EmbedderOptions
from models.registry import registry

EMBED_PAGES = 16  # pages in one call of an embedding worker
WRITE_PAGES = 64
MAX_CHECKERS = 4
CHECK_DOCUMENTS = 4  # documents in one unit of checking


@dataclass(frozen=True)
class IngestRequest:
    """What to ingest, and what its rows shall carry."""

    paths: tuple[str, ...]
    pattern: str = ""
    tenant: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Scalar] = field(default_factory=dict)
    reindex: bool = False  # do unchanged documents again; skip those deleted meanwhile


def run_ingest(
    settings: Settings, request: IngestRequest, view: ProgressView | None = None
) -> IngestReport:
    """Ingest documents; every input ends in a named state of the report.

    `view` shows the progress; by default on standard error.

    Raises NotFound, InvalidInput or FingerprintMismatch before any work begins; ModelUnavailable,
    OutOfMemory and StoreUnavailable also in its midst, when a report of what was done is saved all
    the same.
    """
    started = time.perf_counter()
    settings = settings.with_absolute_paths()  # Ray's workers may be in another folder
    sources = list_sources(request.paths, request.pattern)
    check_document_fields(request.tenant, request.tags, request.metadata)
    registry.find_spec(settings.model)
    # Ray first: it forks, and does not come up in a process whose gRPC client already has threads.
    with (
        view or progress_view() as shown,
        ray_session(settings),
        open_store(settings) as store,
    ):
        context = _prepare(settings, request, store)
        report = IngestReport(settings.collection, context.fingerprint)
        ledger = Ledger(report, sources, DocumentFinisher(settings, store))
        try:
            for row in _outcomes(sources, context):
                ledger.record(row)
                shown.update(ledger)
        finally:
            ledger.close()
            shown.update(ledger)
            report.seconds = time.perf_counter() - started
            report.file = str(report.save(settings.data_dir / "reports"))
    return report


def _prepare(settings: Settings, request: IngestRequest, store: MilvusStore) -> IngestContext:
    """Gather what every stage has to know; open the collection, so that a mismatch shows here."""
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
    spec = registry.find_spec(settings.model)
    readings = wanted_readings(settings)
    store.check_columns(columns_of(readings))
    target = RenderTarget(
        min_pixels=spec.min_pixels,
        max_pixels=fingerprint.max_pixels,
        keep_pixels=settings.keep_pixels,
        ocr=_wants_ocr(settings),
        ocr_languages=settings.ocr_languages,
        scan=any(reading.needs_scan for reading in readings),
    )
    return IngestContext(
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
        reindex=request.reindex,
        threads=max(1, cpu_cores() // _embed_workers(settings)),
        readings=readings,
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


def _outcomes(sources: list[str], context: IngestContext) -> Iterator[IngestRow]:
    """Run the pipeline; yields what becomes of pages and documents as they end."""
    for batch in batches(lambda: _pipeline(sources, context)):
        yield from from_texts(batch["row"])


def _pipeline(sources: list[str], context: IngestContext) -> Any:
    settings = context.settings
    embedders = _embed_workers(settings)
    on_gpu = cluster_gpus() > 0
    embed_cpus = WAITING_CPUS if on_gpu else 1
    checkers = max(1, min(MAX_CHECKERS, cluster_cpus() // 8))
    renderers = _render_workers(settings, checkers, embedders * embed_cpus)
    blocks = max(1, len(sources) // CHECK_DOCUMENTS)
    dataset = ray.data.from_items(
        [{"source": source} for source in sources], override_num_blocks=blocks
    )
    dataset = stage(dataset, CheckDocuments, context, workers=checkers, batch_size=1)
    # A block is one unit of work: a long document must not stay in the block of its check.
    dataset = dataset.repartition(target_num_rows_per_block=1)
    dataset = stage(dataset, RenderPages, context, workers=renderers, batch_size=1, num_cpus=1)
    dataset = stage(
        dataset,
        EmbedPages,
        context,
        workers=embedders,
        batch_size=EMBED_PAGES,
        num_cpus=embed_cpus,
        num_gpus=settings.gpus_per_worker if on_gpu else None,
        **on_kind(settings.gpu_kind),
    )
    # One writer: Milvus Lite asks for it, and one is far faster than the embedders.
    return stage(dataset, WritePages, context, workers=1, batch_size=WRITE_PAGES)
