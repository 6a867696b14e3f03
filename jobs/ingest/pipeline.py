"""The stages of an ingest as one streaming Ray Data pipeline, run again for what workers lost.

list → CheckDocuments → (one shard a block) → RenderPages → EmbedPages → WritePages → the ledger.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from cluster.errors import InvalidInput, Overloaded
from cluster.hardware import cpu_cores
from cluster.runtime import (
    cluster_cpus,
    cluster_gpus,
    cluster_nodes,
    free_cpus,
    free_gpus,
    on_kind,
    require_gpus,
)
from cluster.settings import Settings
from cluster.store.milvus import MilvusStore
from jobs.ingest.check import CheckDocuments
from jobs.ingest.context import IngestContext
from jobs.ingest.embed import EmbedPages
from jobs.ingest.ledger import Ledger
from jobs.ingest.read import ReadPages
from jobs.ingest.render import RenderPages
from jobs.ingest.report import Stage
from jobs.ingest.rows import from_texts
from jobs.ingest.watch_actor import start_watch
from jobs.ingest.write import WritePages
from jobs.progress import ProgressView
from jobs.ray_data import WAITING_CPUS, WorkersLost, batches, stage

EMBED_PAGES = 16  # pages in one call of an embedding worker on a GPU
EMBED_PAGES_CPU = 4  # where larger batches gain nothing, and may take minutes
EMBED_CALLS = 2  # at once in one worker: one is encoded, or on its way, while one is computed
MAX_EMBED_CALLS_CPU = 4  # where each is computed by threads of its own
READ_CALLS = 4  # a page costs the host more than the device: pictures, compression, files
WRITE_PAGES = 16  # what an end of the driver may find embedded and not written
WRITERS_PER_EMBEDDER = 4  # on a server, which may take a second for what a writer asks of it
FOR_EVER = -1  # restarts: the watch bounds what a page, or a start, may cost
MAX_RUNS_IN_VAIN = 3
GPU_RETRY_S = 30.0
SETTLE_S = 5.0
MAX_CHECKERS = 16
CHECK_DOCUMENTS = 32  # documents in one unit of checking, whose questions the store gets together
log = logging.getLogger(__name__)


def on_ray(context: IngestContext) -> IngestContext:
    """Return the context of the same ingest for workers on this Ray, with a watch of theirs."""
    settings = context.settings
    # A reading worker beside an embedder gets as many: one of the two mostly waits for the other.
    threads = max(1, cpu_cores() // _embed_workers(settings))
    calls = EMBED_CALLS
    if not cluster_gpus():
        calls = min(MAX_EMBED_CALLS_CPU, max(EMBED_CALLS, threads))
    watch = start_watch(settings.worker_timeout_s)
    return replace(context, threads=threads, embed_calls=calls, watch=watch)


def check_cluster(settings: Settings) -> None:
    """Raise InvalidInput where this Ray cannot run the ingest, Overloaded where no GPU is free."""
    _check_gpus(settings)
    if cluster_nodes() > 1 and (settings.is_embedded or "://" not in settings.page_images_url):
        raise InvalidInput(
            "on a cluster every machine must reach the store: set `store` to a Milvus server, and "
            "`page_images` to a URL (s3://…, or file://… for a shared folder)"
        )


def units_of(sources: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield sources in units of checking: small at first, so that the first pages come soon."""
    start, size = 0, 1
    while start < len(sources):
        yield sources[start : start + size]
        start, size = start + size, min(2 * size, CHECK_DOCUMENTS)


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


def _embed_workers(settings: Settings) -> int:
    """Embedding workers: as many as asked for, and never more than the GPUs can hold."""
    if not cluster_gpus():
        return settings.workers or 1
    most = max(1, int(free_gpus() / settings.gpus_per_worker + 1e-6))
    return min(settings.workers or most, most)


def _render_workers(settings: Settings, waiting: int, embed_cpus: float) -> int:
    """Rendering workers: as many as asked for, and never more than can be placed.

    `waiting`: workers of the other stages that mostly wait.

    With one stage that is never placed, the pipeline would wait for ever. One CPU stays free for
    Ray's own splitting of blocks, and by default one for each embedding worker on a GPU: what it
    reserves is less than what it needs to keep the GPU busy. Raises InvalidInput.
    """
    fit = int(free_cpus() - 1 - waiting * WAITING_CPUS - embed_cpus)
    if fit < 1:
        raise InvalidInput("this Ray has too few CPUs for one worker of each stage: add CPUs")
    launching = _embed_workers(settings) if cluster_gpus() > 0 else 0
    return min(settings.render_workers or max(1, cluster_cpus() - 1 - launching), fit)


def _write_workers(settings: Settings, embedders: int) -> int:
    """Writers: one for Milvus Lite, which asks for that; on a server what embedders can fill."""
    return 1 if settings.is_embedded else WRITERS_PER_EMBEDDER * embedders


@dataclass(frozen=True)
class _Workers:
    """How many workers each stage has."""

    checkers: int
    renderers: int
    readers: int
    embedders: int
    embed_cpus: float  # that each embedder reserves
    writers: int

    @classmethod
    def of(cls, context: IngestContext) -> "_Workers":
        """Choose them for this Ray. Raises InvalidInput where it has too few CPUs."""
        settings = context.settings
        embedders = _embed_workers(settings)
        checkers = max(1, min(MAX_CHECKERS, cluster_cpus() // 8))
        readers = embedders if context.gpu.reading else 0
        embed_cpus = WAITING_CPUS if cluster_gpus() else 1
        writers = _write_workers(settings, embedders)
        waiting = checkers + readers + writers
        renderers = _render_workers(settings, waiting, embedders * embed_cpus)
        return cls(checkers, renderers, readers, embedders, embed_cpus, writers)

    def by_stage(self) -> dict[Stage, int]:
        """Return them by the stages of a report; without readers, those that render read."""
        stages: dict[Stage, int] = {"render": self.renderers, "embed": self.embedders}
        stages |= {"read": self.readers} if self.readers else {}
        return stages | {"write": self.writers}


@dataclass(frozen=True)
class PipelineRun:
    """The pipeline, run again for what is left where workers or machines were lost."""

    context: IngestContext
    store: MilvusStore
    ledger: Ledger
    view: ProgressView
    look: Callable[[], None]  # sees whether to stop

    def run(self) -> None:
        """Run until every input has ended. Raises WorkersLost where that gets nowhere."""
        in_vain = 0
        while sources := self.ledger.open_sources:
            before = self.ledger.documents_done + self.ledger.pages_done
            try:
                self._run_pipeline(sources)
                return
            except WorkersLost as error:
                if self.ledger.documents_done + self.ledger.pages_done == before:
                    in_vain += 1
                if in_vain >= MAX_RUNS_IN_VAIN:
                    raise
                log.warning("%s: going on with what is left", error)
                self.ledger.begin_again()
                time.sleep(SETTLE_S)  # what dead workers held is not free at once

    def _run_pipeline(self, sources: list[str]) -> None:
        workers = _Workers.of(self.context)
        self.ledger.report.workers = workers.by_stage()
        for batch in batches(lambda: _pipeline(sources, self.context, workers), self._look):
            for row in from_texts(batch["row"]):
                self.ledger.record(row)
            self.ledger.settle()
            self.view.update(self.ledger)
        self.ledger.settle(wait=True)
        self.view.update(self.ledger)

    def _look(self) -> None:
        """See whether to stop; replace workers that are stuck, and an embedded server that ended.

        Raises Stopped.
        """
        self.store.revive()
        self.look()
        self.ledger.settle()
        for stuck in self.context.watch.replace_stuck():
            doing = f"{stuck.doing[0]}{' and others' if len(stuck.doing) > 1 else ''}"
            message = f"the {stuck.name} was replaced: {stuck.seconds:.0f} s with {doing}"
            self.ledger.report.stuck.append(message)
            log.warning("%s", message)


def _pipeline(sources: list[str], context: IngestContext, workers: _Workers) -> Any:
    settings = context.settings
    on_gpu = cluster_gpus() > 0
    units = [{"sources": json.dumps(unit)} for unit in units_of(sources)]
    dataset = ray.data.from_items(units, override_num_blocks=len(units))
    dataset = stage(
        dataset, CheckDocuments, context, workers=workers.checkers, batch_size=1, restarts=FOR_EVER
    )
    # A block is one unit of work: a long document must not stay in the block of its check.
    dataset = dataset.repartition(target_num_rows_per_block=1)
    dataset = stage(
        dataset,
        RenderPages,
        context,
        workers=workers.renderers,
        batch_size=1,
        num_cpus=1,
        restarts=FOR_EVER,
    )
    batch_size = EMBED_PAGES if on_gpu else EMBED_PAGES_CPU
    if workers.readers:
        dataset = stage(
            dataset,
            ReadPages,
            context,
            workers=workers.readers,
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
        workers=workers.embedders,
        batch_size=batch_size,
        calls=context.embed_calls,
        num_cpus=workers.embed_cpus,
        num_gpus=context.gpu.embedding if on_gpu else None,
        restarts=FOR_EVER,
        **on_kind(settings.gpu_kind),
    )
    return stage(
        dataset,
        WritePages,
        context,
        workers=workers.writers,
        batch_size=WRITE_PAGES,
        restarts=FOR_EVER,
    )
