"""Ingest: documents → pages → vectors → the store.

Documents that are unchanged are told by their stamps. A few pages are done in this process, more as
one streaming pipeline on Ray. An interrupted ingest goes on where it stopped: pages that are in the
store are not done again.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.hardware import cpu_cores, detect_gpus
from cluster.settings import Settings
from cluster.sources import list_sources
from cluster.store.deletion import tenant_mark
from cluster.store.milvus import MilvusStore, open_store
from cluster.store.schema import check_document_fields
from jobs.ingest.context import IngestContext
from jobs.ingest.embed import PageEmbedder
from jobs.ingest.finish import DocumentFinisher
from jobs.ingest.gpu_shares import split_gpu
from jobs.ingest.leave import settled
from jobs.ingest.ledger import Ledger
from jobs.ingest.readings import columns_of, wanted_readings
from jobs.ingest.report import IngestReport, ReportWriter
from jobs.ingest.request import IngestRequest, Stop, Stopped
from jobs.ingest.small import SmallIngest
from jobs.ingest.unchanged import UnchangedFinder
from jobs.ingest.watch import Watch
from jobs.progress import ProgressView, progress_view
from jobs.rendering.target import page_target
from models.options import EmbedderOptions
from models.registry import registry

PATIENCE_S = 120.0  # with a Milvus that is away; a worker that waits says so to the watch


def run_ingest(
    settings: Settings,
    request: IngestRequest,
    view: ProgressView | None = None,
    ask_stop: Callable[[], Stop | None] = lambda: None,
    embedder: PageEmbedder | None = None,
) -> IngestReport:
    """Ingest documents; every input ends in a named state of the report.

    `view` shows the progress; by default on standard error. `ask_stop` is asked twice a second.
    `embedder`: one that is loaded already, which a few pages are embedded by.

    Raises NotFound, InvalidInput, FingerprintMismatch or Overloaded (no GPU is free) before any
    page is done; Stopped, ModelUnavailable, OutOfMemory, FilesUnavailable and StoreUnavailable also
    in its midst, when a report of what was done is saved all the same.
    """
    started = time.perf_counter()
    settings = settings.with_absolute_paths()  # Ray's workers may be in another folder
    sources = _sources(request)
    check_document_fields(request.tenant, request.tags, request.metadata)
    registry.find_spec(settings.model)
    with (
        view or progress_view() as shown,
        _cluster_if_named(settings),
        open_store(settings, patience_s=PATIENCE_S) as store,
    ):
        context = _prepare(settings, request, store)
        report = IngestReport(settings.collection, str(context.fingerprint))
        writer = ReportWriter(report, settings.data_dir / "reports", request.tenant)
        finisher = DocumentFinisher(settings, store, request.tenant, request.replaces)
        ledger = Ledger(report, writer, sources, finisher)
        try:
            ingest = _Ingest(context, store, finisher, ledger, shown, ask_stop, embedder)
            ingest.run(request, sources)
        finally:
            ledger.close("interrupted", "ingest it again: pages that are done are kept")
            shown.update(ledger)
            report.seconds = time.perf_counter() - started
            writer.close()
    return report


def _sources(request: IngestRequest) -> list[str]:
    """List what is to be ingested. Raises NotFound."""
    if request.is_job or request.is_listed:
        return list(request.paths)
    return list_sources(request.paths, request.pattern)


@contextmanager
def _cluster_if_named(settings: Settings) -> Iterator[None]:
    """Connect to the Ray of the settings, which alone knows what GPUs it has.

    One of our own is started where it is needed. Raises InvalidInput or Overloaded.
    """
    if not settings.ray_address and not _is_on_ray():
        yield
        return
    from cluster.runtime import ray_session
    from jobs.ingest.pipeline import check_cluster

    with ray_session(settings):
        check_cluster(settings)
        yield


def _is_on_ray() -> bool:
    """True where this process is connected to a Ray; without importing it."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _has_gpu() -> bool:
    if not _is_on_ray():
        return bool(detect_gpus())
    from cluster.runtime import cluster_gpus

    return cluster_gpus() > 0


def _prepare(settings: Settings, request: IngestRequest, store: MilvusStore) -> IngestContext:
    """Gather what every stage has to know; open the collection, so that a mismatch shows here."""
    options = EmbedderOptions.from_settings(settings, has_gpu=_has_gpu())
    fingerprint = options.fingerprint(options.resolved_precision)
    store.open_collection(fingerprint, chunk_vectors=settings.chunk_vectors == "on")
    spec = registry.find_spec(settings.model)
    readings = wanted_readings(settings)
    store.check_columns(columns_of(readings))
    scan = any(reading.needs_scan for reading in readings)
    target = page_target(settings, spec, fingerprint, scan=scan)
    reads = any(reading.runs_on == "device" for reading in readings)
    return IngestContext(
        settings=settings,
        ingest_id=request.ingest_id,
        address=store.address,
        fingerprint=fingerprint,
        options=options,
        target=target,
        page_chars=spec.page_chars,
        chunk_vectors=store.required().chunk_vectors,
        tenant=request.tenant,
        tags=request.tags,
        metadata=request.metadata,
        reindex=request.reindex,
        is_job=request.is_job,
        threads=cpu_cores(),
        embed_calls=1,
        gpu=split_gpu(settings, options.resolved_precision, reads=reads),
        readings=readings,
        tenant_mark=tenant_mark(store, request.tenant),
        watch=Watch(settings.worker_timeout_s, kill=lambda handle: None),
    )


class _Ingest:
    """One ingest: what is unchanged, then what is left, here or on Ray."""

    def __init__(
        self,
        context: IngestContext,
        store: MilvusStore,
        finisher: DocumentFinisher,
        ledger: Ledger,
        view: ProgressView,
        ask_stop: Callable[[], Stop | None],
        embedder: PageEmbedder | None,
    ) -> None:
        self._context = context
        self._store = store
        self._finisher = finisher
        self._ledger = ledger
        self._view = view
        self._ask_stop = ask_stop
        self._embedder = embedder

    def run(self, request: IngestRequest, sources: list[str]) -> None:
        """Run until every input has ended. Raises Stopped, and what the stages raise."""
        with settled(self._context, self._store, self._finisher, self._ledger):
            if UnchangedFinder.is_wanted(request):
                self._leave_out_unchanged(request, sources)
            if self._may_run_here():
                shared = (self._context, self._store, self._ledger, self._view, self._look)
                SmallIngest(*shared, self._embedder).run()
        if self._ledger.open_sources:
            self._run_on_ray()

    def _may_run_here(self) -> bool:
        """True where a few pages need no workers of their own.

        On Ray that takes an embedder that is loaded, and no reading that wants a GPU of its own.
        """
        on_device = any(reading.runs_on == "device" for reading in self._context.readings)
        return not _is_on_ray() or (self._embedder is not None and not on_device)

    def _leave_out_unchanged(self, request: IngestRequest, sources: list[str]) -> None:
        context = self._context
        finder = UnchangedFinder(context.settings, request, context.readings, self._store)
        for outcomes in finder.find(sources):
            self._look()
            for outcome in outcomes:
                self._ledger.record(outcome)
            self._view.update(self._ledger)

    def _run_on_ray(self) -> None:
        from cluster.runtime import ray_session
        from jobs.ingest.pipeline import PipelineRun, check_cluster, on_ray

        with ray_session(self._context.settings):
            check_cluster(self._context.settings)
            context = on_ray(self._context)
            with settled(context, self._store, self._finisher, self._ledger):
                PipelineRun(context, self._store, self._ledger, self._view, self._look).run()

    def _look(self) -> None:
        """See whether to stop. Raises Stopped."""
        if stop := self._ask_stop():
            raise Stopped(stop)
