"""The indexer's deployment: runs the ingest of jobs one after the other, in the background.

There is one replica; during a rolling update an old and a new one may overlap. Each writes a job
down before it answers and reads the others' jobs from their files; the one that holds the
journal's lock runs them. It takes up what is unfinished when it gets the lock: an ingest that is
run again goes on where it stopped.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from cluster.errors import Overloaded, QuireError
from cluster.metrics import count_out_of_memory, service_metrics
from cluster.settings import Settings
from cluster.sources import without_folders
from jobs.ingest.leave import stop_ingest
from jobs.ingest.report import IngestReport
from jobs.ingest.request import IngestRequest, Stop, Stopped
from jobs.ingest.run import run_ingest
from jobs.journal import Job, JobRequest, Journal
from jobs.progress import Counts
from models.registry import registry
from serve.deployments.handles import EmbedderHandle
from serve.deployments.page_embedder import ServedPageEmbedder

LOOK_S = 1.0  # between two looks for the lock, and for jobs that another replica wrote down
RETRY_S = 5.0  # before a state that could not be written is written again
SAVE_INTERVAL_S = 1.0
SMALL_BYTES = 10 * 2**20  # jobs below are all alike; then each power of ten is a class
SLICE_S = 120.0  # of one job, while others wait for their turn
MAX_ATTEMPTS = 3
CANCELLED = "it was stopped: what it had indexed stays"
ENDS_INDEXER = (
    f"it ended the indexer {MAX_ATTEMPTS} times and is set aside: upload its files one by one, and "
    "look into the log for the one that does it"
)
PROGRESS = ("documents", "documents_done", "pages", "pages_done", "failures")
log = logging.getLogger("ray.serve")


def beside_the_service(settings: Settings) -> Settings:
    """Settings of an ingest that leaves the service its GPUs: one worker, like an embedder there.

    As they are where the embedder has no share of a GPU that is set.
    """
    own = settings.embedder_replicas
    if not own.gpus:
        return settings
    longest = registry.find_spec(settings.model).max_tokens
    return settings.model_copy(
        update={
            "workers": 1,
            "gpus_per_worker": own.gpus,
            "gpu_memory_fraction": own.memory_fraction,
            "gpu_kind": own.gpu_kind,
            "batch_tokens": min(settings.batch_tokens, max(longest, own.batch_tokens)),
        }
    )


def next_job(
    jobs: Iterable[Job], served: Mapping[str, float], running: Job | None = None
) -> Job | None:
    """Return the job whose turn it is: tenants take turns, and small jobs come before huge ones.

    `served`: when each tenant's last job began. With `running`, only a job that comes before it.
    """

    def order(job: Job) -> tuple[float, int, float, str]:
        size_class = int(math.log10(max(1, job.request.size_bytes / SMALL_BYTES)))
        return served.get(job.request.tenant, 0.0), size_class, job.created, job.job_id

    waiting = [job for job in jobs if not job.is_over]
    if running is not None:
        waiting = [job for job in waiting if order(job) < order(running)]
    return min(waiting, key=order, default=None)


class IndexerDeployment:
    """Jobs by id; methods may be called at the same time.

    Invariant: `_jobs` mirrors the journal's files, and is empty without its lock.
    """

    def __init__(self, settings: Settings, embedder: Any = None) -> None:
        """`embedder`: the handle of the service's own, which embeds jobs of a few pages."""
        self._settings = beside_the_service(settings)
        self._embedder = EmbedderHandle("embedder", embedder) if embedder is not None else None
        self._journal = Journal(settings.data_dir / "jobs")
        self._jobs: dict[str, Job] = {}
        self._has_jobs = False  # the lock is ours, and what was in the folder is in memory
        self._changed = asyncio.Condition()
        self._submitted = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._saving: set[asyncio.Task[None]] = set()
        self._running = ""  # the id of the job that runs
        self._served: dict[str, float] = {}  # by tenant: when a job of it began last
        self._others_wait = False  # jobs that come before the one that runs

    async def submit(self, job_id: str, request: JobRequest) -> Job:
        """Queue a job; it is on disk when this returns. To submit it twice is to submit it once.

        Raises InvalidInput where the id is not 32 hex digits.
        """
        job = await asyncio.to_thread(self._journal.new, job_id, request)
        self._submitted.set()
        self._start()
        return job

    async def job(self, job_id: str) -> Job | None:
        self._start()
        return self._jobs.get(job_id) or await asyncio.to_thread(self._journal.find_job, job_id)

    async def list_jobs(
        self, tenant: str | None, collections: Sequence[str] | None, limit: int, offset: int
    ) -> tuple[list[Job], int]:
        """Return jobs of a tenant and of collections (None: of all), the newest first, and a count.

        Jobs of the service's own collection are always among them.
        """
        self._start()
        jobs = self._jobs
        if not self._has_jobs:  # another replica's: their files tell
            jobs = await asyncio.to_thread(lambda: self._journal.jobs(self._journal.ids()))
        collection = self._settings.collection
        own = [job for job in jobs.values() if job.request.is_for(tenant, collections, collection)]
        own.sort(key=lambda job: (-job.created, job.job_id))
        return own[offset : offset + limit], len(own)

    async def cancel(self, job_id: str) -> Job | None:
        """Stop a job that waits or runs; returns it as it stands, None where there is none.

        One that runs ends within seconds. What it has indexed stays.
        """
        job = await self.job(job_id)
        if job is not None and not job.is_over:
            await asyncio.to_thread(self._journal.cancel, job_id)
            self._submitted.set()
        return job

    async def next_version(self, job_id: str, seen: int, wait_s: float) -> Job | None:
        """Return the job once it is newer than version `seen`, or as it is after `wait_s`."""

        def is_newer() -> bool:
            return job_id in self._jobs and self._jobs[job_id].version > seen

        deadline = time.monotonic() + wait_s
        while True:
            job = await self.job(job_id)
            left_s = deadline - time.monotonic()
            if job is None or job.version > seen or job.is_over or left_s <= 0:
                return job
            # Another replica tells nobody: where it has the lock, its files are looked at again.
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, LOOK_S)), self._changed:
                    await self._changed.wait_for(is_newer)

    async def check_health(self) -> None:
        """Ray Serve calls this: it also takes up unfinished jobs after a restart."""
        self._start()

    def _start(self) -> None:
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while True:
            self._submitted.clear()
            try:
                if await self._take_over():
                    await self._run_all()
            except OSError:
                log.exception("the journal of jobs cannot be used; trying again")
                await asyncio.sleep(RETRY_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._submitted.wait()

    async def _take_over(self) -> bool:
        """Try to take the journal's lock; true where the jobs are ours to run."""
        if not self._has_jobs and self._journal.lock():
            self._jobs = await asyncio.to_thread(self._journal.load)
            self._has_jobs = True
            await self._prune()
        return self._has_jobs

    async def _run_all(self) -> None:
        """Run every job that waits, in the order of `next_job`."""
        while True:
            await self._look_at_files()
            job = next_job(self._jobs.values(), self._served)
            if job is None:
                return
            await self._run_one(job)
            await self._prune()

    async def _look_at_files(self) -> None:
        """Take in jobs that another replica wrote down, drop removed ones, settle cancelled."""
        ids = await asyncio.to_thread(self._journal.ids)
        self._jobs.update(await asyncio.to_thread(self._journal.jobs, ids - self._jobs.keys()))
        for job_id in self._jobs.keys() - ids:  # its tenant was forgotten
            del self._jobs[job_id]
        waiting = [job.job_id for job in self._jobs.values() if not job.is_over]
        for job_id in waiting:
            if job_id != self._running and self._journal.is_cancelled(job_id):
                await self._settle_documents(self._jobs[job_id])
                await self._settle(job_id, status="cancelled", error=CANCELLED)

    async def _settle_documents(self, job: Job) -> None:
        """Settle what a job that will not go on was still at, if it ever began."""
        if not job.attempts:
            return
        settings, tenant = self._settings_of(job.request), job.request.tenant
        try:
            await asyncio.to_thread(stop_ingest, settings, tenant, job.job_id)
        except QuireError as error:
            log.warning("job %s: its documents cannot be settled: %s", job.job_id, error)

    def _settings_of(self, asked: JobRequest) -> Settings:
        own = self._settings
        return own.model_copy(update={"collection": asked.collection or own.collection})

    async def _run_one(self, job: Job) -> None:
        if job.attempts >= MAX_ATTEMPTS:
            await self._settle_documents(job)
            await self._settle(job.job_id, status="failed", error=ENDS_INDEXER)
            return
        self._served[job.request.tenant] = time.monotonic()
        await self._settle(job.job_id, status="running", attempts=job.attempts + 1)
        self._running = job.job_id
        try:
            end = await self._end_of(job)
        finally:
            self._running = ""
        await self._settle(job.job_id, **end)
        if end["status"] != "queued":
            service_metrics().jobs.inc(1, {"status": end["status"]})

    async def _end_of(self, job: Job) -> dict[str, Any]:
        """Run a job; returns what has changed of it."""
        view = _JobView(self, job.job_id, asyncio.get_running_loop())
        slice_ends = time.monotonic() + SLICE_S

        def ask_stop() -> Stop | None:
            if self._journal.is_cancelled(job.job_id):
                return "cancel"
            is_late = self._others_wait and time.monotonic() > slice_ends
            # What is indexed again begins anew each time: it would never end.
            return "pause" if is_late and job.request.kind != "reindex" else None

        embedder = None
        if self._embedder is not None:
            embedder = ServedPageEmbedder(self._embedder, asyncio.get_running_loop())
        run = partial(self._run, job, view, ask_stop, embedder)
        running = asyncio.create_task(asyncio.to_thread(run))
        while not (await asyncio.wait({running}, timeout=LOOK_S))[0]:
            try:
                await self._look_at_files()
            except OSError as error:
                log.warning("the journal of jobs cannot be read: %s", error)
            self._others_wait = next_job(self._jobs.values(), self._served, job) is not None
        try:
            report = await running
        except Stopped as stopped:
            if stopped.stop == "cancel":
                return {"status": "cancelled", "error": CANCELLED, "progress": view.counts}
            return {"status": "queued", "attempts": job.attempts}  # others' turn; it goes on later
        except Overloaded as error:  # no GPU is free: it waits
            log.info("job %s waits: %s", job.job_id, error)
            await asyncio.sleep(RETRY_S)
            return {"status": "queued", "attempts": job.attempts}
        except QuireError as error:
            log.warning("job %s failed: %s", job.job_id, error)
            message = without_folders(str(error), *job.request.paths)
            return {"status": "failed", "error": message, "progress": view.counts}
        except Exception:  # a job's failure is its own, not the queue's
            log.exception("job %s failed", job.job_id)
            message = f"an unexpected error: look into the indexer's log for job {job.job_id}"
            return {"status": "failed", "error": message, "progress": view.counts}
        documents = await asyncio.to_thread(_documents, report)
        return {"status": "succeeded", "documents": documents, "progress": view.counts}

    def _run(
        self,
        job: Job,
        view: "_JobView",
        ask_stop: Callable[[], Stop | None],
        embedder: ServedPageEmbedder | None,
    ) -> IngestReport:
        asked = job.request
        request = IngestRequest(
            paths=asked.paths,
            tenant=asked.tenant,
            tags=asked.tags,
            metadata=asked.metadata,
            reindex=asked.kind == "reindex",
            is_job=True,
            replaces=(asked.replaces,) if asked.replaces else (),
            ingest_id=job.job_id,
        )
        report = run_ingest(self._settings_of(asked), request, view, ask_stop, embedder)
        if report.new_pages:
            service_metrics().pages_indexed.inc(report.new_pages)
        for _ in report.halved_batch_tokens:
            count_out_of_memory("indexer")
        return report

    async def _prune(self) -> None:
        for job_id in await asyncio.to_thread(self._journal.prune, list(self._jobs.values())):
            del self._jobs[job_id]

    async def _settle(self, job_id: str, **changes: Any) -> None:
        """Change a job, however often the disk refuses: what became of it is not to be lost."""
        while True:
            try:
                await self._update(job_id, **changes)
            except OSError:
                log.exception("job %s: its state cannot be written; trying again", job_id)
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _update(self, job_id: str, **changes: Any) -> None:
        """Save a change, then show it. Raises OSError where nothing was saved."""
        async with self._changed:
            job = self._jobs.get(job_id)
            if job is None or job.is_over:
                return  # late progress
            if _gets_on(job, changes):
                changes = {"attempts": 1} | changes
            changed = job.changed(**changes)
            await asyncio.to_thread(self._journal.save, changed)
            self._jobs[job_id] = changed
            self._changed.notify_all()

    def progressed(self, job_id: str, counts: dict[str, int]) -> None:
        """Called on the event loop while the job runs."""
        task = asyncio.get_running_loop().create_task(self._save_progress(job_id, counts))
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _save_progress(self, job_id: str, counts: dict[str, int]) -> None:
        try:
            await self._update(job_id, progress=counts)
        except OSError as error:  # the next progress, or the end, will be written
            log.warning("job %s: its progress cannot be written: %s", job_id, error)


def _gets_on(job: Job, changes: Mapping[str, Any]) -> bool:
    """True where a job has indexed pages: should it end the indexer, it was not in vain.

    What is indexed again begins at its first page each time, so that says nothing.
    """
    progress = changes.get("progress", {})
    indexed = progress.get("pages_done", 0) - progress.get("failures", 0)
    return job.request.kind != "reindex" and indexed > 0


class _JobView:
    """Shows the progress of an ingest to whoever asks for the job."""

    def __init__(
        self, indexer: IndexerDeployment, job_id: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._indexer = indexer
        self._job_id = job_id
        self._loop = loop
        self._next_s = 0.0
        self.counts: dict[str, int] = {}

    def __enter__(self) -> "_JobView":
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: the job's end carries its last counts."""

    def update(self, counts: Counts) -> None:
        self.counts = {name: int(getattr(counts, name)) for name in PROGRESS}
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + SAVE_INTERVAL_S
            self._loop.call_soon_threadsafe(self._indexer.progressed, self._job_id, self.counts)


def _documents(report: IngestReport) -> tuple[dict[str, Any], ...]:
    """Return the end of each input; a stored file's folder is nobody's business."""
    return tuple(
        {
            "source": Path(each.source).name,
            "state": each.state,
            "doc_id": each.doc_id,
            "reason": each.reason,
            "message": without_folders(each.message, each.source),
            "pages": each.pages,
            "failed_pages": {
                str(page): without_folders(why, each.source)
                for page, why in each.failed_pages.items()
            },
        }
        for each in report.documents
    )
