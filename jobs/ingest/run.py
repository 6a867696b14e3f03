"""Ingest: documents → pages → vectors → the store, as one streaming Ray Data pipeline.

list → CheckDocuments → (one shard a block) → RenderPages → ReadPages, where a model reads pages →
EmbedPages → WritePages → the ledger.
An interrupted ingest goes on where it stopped: pages that are in the store are not shards again.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray

from cluster.errors import InvalidInput, Overloaded, QuireError
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
from cluster.store.deletion import tenant_mark
from cluster.store.milvus import MilvusStore, open_store
from cluster.store.schema import check_document_fields
from jobs.ingest.check import CheckDocuments
from jobs.ingest.context import IngestContext
from jobs.ingest.embed import EmbedPages
from jobs.ingest.finish import DocumentFinisher
from jobs.ingest.gpu_shares import split_gpu
from jobs.ingest.leave import leave_early
from jobs.ingest.ledger import Ledger
from jobs.ingest.read import ReadPages
from jobs.ingest.readings import columns_of, wanted_readings
from jobs.ingest.render import RenderPages
from jobs.ingest.report import IngestReport, ReportWriter
from jobs.ingest.request import IngestRequest, Stop, Stopped
from jobs.ingest.rows import from_texts
from jobs.ingest.watch import start_watch
from jobs.ingest.write import WritePages
from jobs.progress import ProgressView, progress_view
from jobs.ray_data import WAITING_CPUS, WorkersLost, ask, batches, end_actor, stage
from jobs.rendering.client import RenderTarget
from jobs.rendering.ocr import tesseract_available
from models.options import EmbedderOptions
from models.registry import registry

EMBED_PAGES = 16  # pages in one call of an embedding worker on a GPU
EMBED_CALLS = 2  # at once in one worker: one is encoded, or on its way, while one is computed
READ_CALLS = 4  # a page costs the host more than the device: pictures, compression, files
EMBED_PAGES_CPU = 4  # where larger batches gain nothing, and may take minutes
WRITE_PAGES = 16  # what an end of the driver may find embedded and not written
FOR_EVER = -1  # restarts: the watch bounds what a page, or a start, may cost
MAX_RUNS_IN_VAIN = 3
PATIENCE_S = 120.0  # with a Milvus that is away; a worker that waits says so to the watch
GPU_RETRY_S = 30.0
SETTLE_S = 5.0
MAX_CHECKERS = 4
CHECK_DOCUMENTS = 4  # documents in one unit of checking
log = logging.getLogger(__name__)


def run_ingest(
    settings: Settings,
    request: IngestRequest,
    view: ProgressView | None = None,
    ask_stop: Callable[[], Stop | None] = lambda: None,
) -> IngestReport:
    """Ingest documents; every input ends in a named state of the report.

    `view` shows the progress; by default on standard error. `ask_stop` is asked twice a second.

    Raises NotFound, InvalidInput, FingerprintMismatch or Overloaded (no GPU is free) before any
    work begins; Stopped, ModelUnavailable, OutOfMemory, FilesUnavailable and StoreUnavailable also
    in its midst, when a report of what was done is saved all the same.
    """
    started = time.perf_counter()
    settings = settings.with_absolute_paths()  # Ray's workers may be in another folder
    sources = _sources(request)
    check_document_fields(request.tenant, request.tags, request.metadata)
    registry.find_spec(settings.model)
    # Ray first: it forks, and does not come up in a process whose gRPC client already has threads.
    with (
        view or progress_view() as shown,
        ray_session(settings),
        open_store(settings, patience_s=PATIENCE_S) as store,
    ):
        context = _prepare(settings, request, store)
        report = IngestReport(settings.collection, str(context.fingerprint))
        writer = ReportWriter(report, settings.data_dir / "reports", request.tenant)
        finisher = DocumentFinisher(settings, store, request.replaces)
        ledger = Ledger(report, writer, sources, finisher)
        run = _Run(context, store, ledger, shown, ask_stop)
        try:
            run.run()
        except BaseException as error:
            with suppress(QuireError):  # what ended the ingest is what its caller must know
                store.patient(0)
                leave_early(context, store, finisher, ledger, error)
            raise
        finally:
            ledger.close("interrupted", "ingest it again: pages that are done are kept")
            shown.update(ledger)
            report.seconds = time.perf_counter() - started
            writer.close()
            end_actor(context.watch)
    return report


def _sources(request: IngestRequest) -> list[str]:
    """List what is to be ingested. Raises NotFound."""
    if request.is_job or request.is_listed:
        return list(request.paths)
    return list_sources(request.paths, request.pattern)


def _prepare(settings: Settings, request: IngestRequest, store: MilvusStore) -> IngestContext:
    """Gather what every stage has to know; open the collection, so that a mismatch shows here."""
    _check_gpus(settings)
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
    reads = any(reading.runs_on == "device" for reading in readings)
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
        ingest_id=request.ingest_id,
        address=store.address,
        fingerprint=fingerprint,
        options=options,
        target=target,
        page_chars=spec.page_chars,
        tenant=request.tenant,
        tags=request.tags,
        metadata=request.metadata,
        reindex=request.reindex,
        is_job=request.is_job,
        threads=max(1, cpu_cores() // (_embed_workers(settings) * (2 if reads else 1))),
        gpu=split_gpu(settings, options.resolved_precision, reads=reads),
        readings=readings,
        tenant_mark=tenant_mark(store, request.tenant),
        watch=start_watch(settings.worker_timeout_s),
    )


def _check_gpus(settings: Settings) -> None:
    """Raise InvalidInput where a GPU is wanted that is not there, Overloaded where none is free."""
    if settings.gpu_kind or settings.gpu_memory_fraction:  # made for GPUs: a plan's
        require_gpus(settings.gpus_per_worker, settings.gpu_kind, "this ingest")
    if not cluster_gpus():
        return
    if settings.gpus_per_worker > cluster_gpus():
        raise InvalidInput(
            f"gpus_per_worker is {settings.gpus_per_worker:g} and this Ray has {cluster_gpus():g} "
            "GPUs: lower it"
        )
    if free_gpus() < settings.gpus_per_worker:
        raise Overloaded(
            f"gpus_per_worker is {settings.gpus_per_worker:g} and {free_gpus():g} of Ray's "
            f"{cluster_gpus():g} GPUs are free: wait, lower it, or lower the share of those who "
            "hold them",
            retry_after_s=GPU_RETRY_S,
        )


def _wants_ocr(settings: Settings) -> bool:
    if settings.ocr == "on" and not tesseract_available():
        raise InvalidInput("ocr is on but Tesseract is not installed: install it, or set ocr off")
    return settings.ocr != "off" and tesseract_available()


def _embed_workers(settings: Settings) -> int:
    """Embedding workers: as many as asked for, and never more than the GPUs can hold."""
    if not cluster_gpus():
        return settings.workers or 1
    most = max(1, int(free_gpus() / settings.gpus_per_worker + 1e-6))
    return min(settings.workers or most, most)


def _render_workers(settings: Settings, checkers: int, embed_cpus: float) -> int:
    """Rendering workers: as many as asked for, and never more than can be placed.

    With one stage that is never placed, the pipeline would wait for ever. One CPU stays free for
    Ray's own splitting of blocks, and by default one for each embedding worker on a GPU: what it
    reserves is less than what it needs to keep the GPU busy. Raises InvalidInput.
    """
    fit = int(free_cpus() - 1 - (checkers + 1) * WAITING_CPUS - embed_cpus)
    if fit < 1:
        raise InvalidInput("this Ray has too few CPUs for one worker of each stage: add CPUs")
    launching = _embed_workers(settings) if cluster_gpus() > 0 else 0
    return min(settings.render_workers or max(1, cluster_cpus() - 1 - launching), fit)


class _Run:
    """The pipeline, run again for what is left where workers or machines were lost."""

    def __init__(
        self,
        context: IngestContext,
        store: MilvusStore,
        ledger: Ledger,
        view: ProgressView,
        ask_stop: Callable[[], Stop | None],
    ) -> None:
        self._context = context
        self._store = store
        self._ledger = ledger
        self._view = view
        self._ask_stop = ask_stop

    def run(self) -> None:
        """Run until every input has ended. Raises WorkersLost where that gets nowhere."""
        in_vain = 0
        while sources := self._ledger.open_sources:
            before = self._ledger.documents_done + self._ledger.pages_done
            try:
                self._run_pipeline(sources)
                return
            except WorkersLost as error:
                if self._ledger.documents_done + self._ledger.pages_done == before:
                    in_vain += 1
                if in_vain >= MAX_RUNS_IN_VAIN:
                    raise
                log.warning("%s: going on with what is left", error)
                self._ledger.begin_again()
                time.sleep(SETTLE_S)  # what dead workers held is not free at once

    def _run_pipeline(self, sources: list[str]) -> None:
        for batch in batches(lambda: _pipeline(sources, self._context), self._look):
            for row in from_texts(batch["row"]):
                self._ledger.record(row)
                self._view.update(self._ledger)

    def _look(self) -> None:
        """See whether to stop; replace workers that are stuck, and an embedded server that ended.

        Raises Stopped.
        """
        self._store.revive()
        if stop := self._ask_stop():
            raise Stopped(stop)
        for stuck in ask(self._context.watch.replace_stuck.remote()):
            doing = f"{stuck.doing[0]}{' and others' if len(stuck.doing) > 1 else ''}"
            message = f"the {stuck.name} was replaced: {stuck.seconds:.0f} s with {doing}"
            self._ledger.report.stuck.append(message)
            log.warning("%s", message)


def _pipeline(sources: list[str], context: IngestContext) -> Any:
    settings = context.settings
    embedders = _embed_workers(settings)
    on_gpu = cluster_gpus() > 0
    embed_cpus = WAITING_CPUS if on_gpu else 1
    checkers = max(1, min(MAX_CHECKERS, cluster_cpus() // 8))
    readers = embedders if context.gpu.reading else 0
    renderers = _render_workers(settings, checkers, embedders * embed_cpus + readers * WAITING_CPUS)
    blocks = max(1, len(sources) // CHECK_DOCUMENTS)
    dataset = ray.data.from_items(
        [{"source": source} for source in sources], override_num_blocks=blocks
    )
    dataset = stage(
        dataset, CheckDocuments, context, workers=checkers, batch_size=1, restarts=FOR_EVER
    )
    # A block is one unit of work: a long document must not stay in the block of its check.
    dataset = dataset.repartition(target_num_rows_per_block=1)
    dataset = stage(
        dataset,
        RenderPages,
        context,
        workers=renderers,
        batch_size=1,
        num_cpus=1,
        restarts=FOR_EVER,
    )
    batch_size = EMBED_PAGES if on_gpu else EMBED_PAGES_CPU
    if readers:
        dataset = stage(
            dataset,
            ReadPages,
            context,
            workers=readers,
            batch_size=batch_size,
            calls=READ_CALLS,
            num_gpus=context.gpu.reading if on_gpu else None,
            restarts=FOR_EVER,
            **on_kind(settings.gpu_kind),
        )
    dataset = stage(
        dataset,
        EmbedPages,
        context,
        workers=embedders,
        batch_size=batch_size,
        calls=EMBED_CALLS,
        num_cpus=embed_cpus,
        num_gpus=context.gpu.embedding if on_gpu else None,
        restarts=FOR_EVER,
        **on_kind(settings.gpu_kind),
    )
    # One writer: Milvus Lite asks for it, and one is far faster than the embedders.
    return stage(dataset, WritePages, context, workers=1, batch_size=WRITE_PAGES, restarts=FOR_EVER)
