"""The indexer's deployment: runs the ingest of jobs one after the other, in the background.

There is one replica. It writes every job down before it answers, and takes up what is unfinished
when it starts: an ingest that is run again goes on where it stopped.
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster.errors import QuireError
from cluster.metrics import service_metrics
from cluster.settings import Settings
from jobs.ingest import IngestRequest, run
from jobs.progress import Counts
from jobs.report import IngestReport
from serve.jobs import Job, JobRequest, Journal

SAVE_INTERVAL_S = 1.0
PROGRESS = ("documents", "documents_done", "pages", "pages_done", "failures")


class IndexerDeployment:
    """Jobs by id; methods may be called at the same time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._journal = Journal(settings.data_dir / "jobs")
        self._jobs = self._journal.load()
        self._changed = asyncio.Condition()
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        for job in self._jobs.values():
            if not job.is_over:
                self._queue.put_nowait(job.job_id)
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, request: JobRequest) -> Job:
        """Queue a job; it is on disk when this returns."""
        job = self._journal.new(request)
        self._jobs[job.job_id] = job
        self._queue.put_nowait(job.job_id)
        self._start()
        return job

    async def job(self, job_id: str) -> Job | None:
        self._start()
        return self._jobs.get(job_id)

    async def next_version(self, job_id: str, seen: int, wait_s: float) -> Job | None:
        """The job once it is newer than version `seen`, or as it is after `wait_s`."""
        self._start()

        def is_news() -> bool:
            job = self._jobs.get(job_id)
            return job is None or job.version > seen or job.is_over

        async with self._changed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(is_news), wait_s)
        return self._jobs.get(job_id)

    async def check_health(self) -> None:
        """Ray Serve calls this: it also takes up unfinished jobs after a restart."""
        self._start()

    def _start(self) -> None:
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while True:
            job_id = await self._queue.get()
            await self._update(job_id, status="running")
            view = _JobView(self, job_id, asyncio.get_running_loop())
            try:
                report = await asyncio.to_thread(self._run, self._jobs[job_id].request, view)
            except QuireError as error:
                await self._update(job_id, status="failed", error=str(error))
            except Exception as error:  # noqa: BLE001 — a job's failure is its own, not the queue's
                message = f"{type(error).__name__}: {error}; see the indexer's log"
                await self._update(job_id, status="failed", error=message)
            else:
                await self._update(job_id, status="succeeded", documents=_documents(report))
            service_metrics().jobs.inc(1, {"status": self._jobs[job_id].status})

    def _run(self, asked: JobRequest, view: "_JobView") -> IngestReport:
        request = IngestRequest(
            paths=asked.paths,
            tenant=asked.tenant,
            tags=asked.tags,
            metadata=asked.metadata,
            again=asked.kind == "reindex",
        )
        report = run(self._settings, request, view)
        if report.new_pages:
            service_metrics().pages_indexed.inc(report.new_pages)
        return report

    async def _update(self, job_id: str, **changes: Any) -> None:
        async with self._changed:
            if self._jobs[job_id].is_over:
                return  # late progress
            self._jobs[job_id] = self._jobs[job_id].changed(**changes)
            await asyncio.to_thread(self._journal.save, self._jobs[job_id])
            self._changed.notify_all()

    def progressed(self, job_id: str, counts: dict[str, int]) -> None:
        """Called on the event loop while the job runs."""
        self._news = asyncio.get_running_loop().create_task(self._update(job_id, progress=counts))


class _JobView:
    """Shows the progress of an ingest to whoever asks for the job."""

    def __init__(
        self, indexer: IndexerDeployment, job_id: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._indexer = indexer
        self._job_id = job_id
        self._loop = loop
        self._next_s = 0.0
        self._last: dict[str, int] = {}

    def __enter__(self) -> "_JobView":
        return self

    def __exit__(self, *error: object) -> None:
        self._send()

    def update(self, counts: Counts) -> None:
        self._last = {name: int(getattr(counts, name)) for name in PROGRESS}
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + SAVE_INTERVAL_S
            self._send()

    def _send(self) -> None:
        if self._last:
            self._loop.call_soon_threadsafe(self._indexer.progressed, self._job_id, self._last)


def _documents(report: IngestReport) -> tuple[dict[str, Any], ...]:
    """The end of each input; a stored file's folder is nobody's business."""
    return tuple(
        {
            "source": Path(each.source).name,
            "state": each.state,
            "doc_id": each.doc_id,
            "reason": each.reason,
            "message": each.message,
            "pages": each.pages,
            "failed_pages": {str(page): why for page, why in each.failed_pages.items()},
        }
        for each in report.documents
    )
