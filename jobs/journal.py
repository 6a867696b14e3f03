"""Jobs and their journal: one JSON file a job, so that a restart forgets none.

Any replica may write down a new job, read them all, and leave a note that one is to be cancelled;
only the one that holds the journal's lock runs, changes, sets aside and removes them.
"""

import fcntl
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal, get_args

from cluster.core import Scalar
from cluster.errors import InvalidInput

JobKind = Literal["ingest", "reindex"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
KEPT_JOBS = 1000
DRAFT_S = 60.0  # a draft of this age was left by a process that is gone
_JOB_ID = re.compile(r"[0-9a-f]{32}")
log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class JobRequest:
    """What a job is to do: index these stored files, or index them again.

    `replaces`: id of the document that makes room for this one. `collection`: where not the
    service's own. `size_bytes`: of the files.
    """

    kind: JobKind
    tenant: str
    paths: tuple[str, ...]
    tags: tuple[str, ...] = ()
    metadata: dict[str, Scalar] = field(default_factory=dict)
    replaces: str = ""
    collection: str = ""
    size_bytes: int = 0

    def is_for(
        self, tenant: str | None, collections: Iterable[str] | None, own_collection: str
    ) -> bool:
        """True for a caller of this tenant and of these collections beside the service's own.

        None stands for all. Quire 0.1 noted no collection: it is the service's own.
        """
        if tenant not in (None, self.tenant):
            return False
        return collections is None or self.collection in ("", own_collection, *collections)


@dataclass(frozen=True)
class Job:
    """A job as it stands; `version` grows with every change, `attempts` with every start."""

    job_id: str
    request: JobRequest
    created: float
    status: Status = "queued"
    version: int = 0
    progress: dict[str, int] = field(default_factory=dict)
    documents: tuple[dict[str, Any], ...] = ()
    error: str = ""
    attempts: int = 0

    @property
    def is_over(self) -> bool:
        return self.status in ("succeeded", "failed", "cancelled")

    def changed(self, **changes: Any) -> "Job":
        return replace(self, version=self.version + 1, **changes)


class Journal:
    """The jobs of one folder. What touches files raises OSError where the disk refuses."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[str] | None = None

    def lock(self) -> bool:
        """Try to become the one who runs and changes jobs, for as long as this process lives."""
        if self._lock is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / "lock").open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                return False
            self._lock = lock
        return True

    def new(self, job_id: str, request: JobRequest) -> Job:
        """Write down a queued job; where the id exists, that job as it is. Raises InvalidInput."""
        if not _JOB_ID.fullmatch(job_id):
            raise InvalidInput(f"{job_id[:80]!r} is not a job id: expected 32 hex digits")
        job = Job(job_id, request, time.time())
        draft = self._draft(job)
        try:
            self._file(job_id).hardlink_to(draft)  # unlike a rename, never over another
        except FileExistsError:
            return _read(self._file(job_id))
        finally:
            draft.unlink()
        _sync(self._folder)
        return job

    def save(self, job: Job) -> None:
        """Write a job's state, whole or not at all; one whose file was removed stays removed."""
        if not self._file(job.job_id).exists():
            return
        self._draft(job).replace(self._file(job.job_id))
        if job.is_over:
            self._note(job.job_id).unlink(missing_ok=True)
        _sync(self._folder)

    def find_job(self, job_id: str) -> Job | None:
        """Return a job as its file has it; None where there is none, or none that can be read."""
        if not _JOB_ID.fullmatch(job_id):
            return None
        try:
            return _read(self._file(job_id))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.error("job %s cannot be read: %s", job_id, error)
            return None

    def ids(self) -> set[str]:
        """Return the ids of all jobs that have a file."""
        return {file.stem for file in self._folder.glob("*.json")}

    def jobs(self, ids: Iterable[str]) -> dict[str, Job]:
        """Return jobs by id; those that are gone or cannot be read are left out."""
        jobs = [self.find_job(job_id) for job_id in ids]
        return {job.job_id: job for job in jobs if job is not None}

    def cancel(self, job_id: str) -> None:
        """Leave a note that a job is to be cancelled, for the one who runs it."""
        self._note(job_id).touch()
        _sync(self._folder)

    def is_cancelled(self, job_id: str) -> bool:
        """True where a job is to be cancelled, or its file was removed."""
        return self._note(job_id).exists() or not self._file(job_id).exists()

    def forget_tenant(self, tenant: str, collection: str) -> None:
        """Remove the jobs of a tenant in a collection; one that runs is cancelled by that."""
        for job_id, job in self.jobs(self.ids()).items():
            is_there = job.request.collection in ("", collection)  # Quire 0.1 noted none
            if job.request.tenant == tenant and is_there:
                self._file(job_id).unlink(missing_ok=True)

    def load(self) -> dict[str, Job]:
        """Every job by id. A file that cannot be read is set aside, under the suffix .bad."""
        jobs: dict[str, Job] = {}
        for file in self._folder.glob("*.json"):
            try:
                jobs[file.stem] = _read(file)
            except (OSError, ValueError) as error:
                log.error("job %s cannot be read and is set aside as .bad: %s", file.stem, error)
                file.replace(file.with_suffix(".bad"))
        self._remove_old_drafts()
        return jobs

    def prune(self, jobs: Iterable[Job]) -> list[str]:
        """Remove the oldest of the jobs that are over, beyond the last thousand; returns ids."""
        over = sorted((job for job in jobs if job.is_over), key=lambda job: job.created)
        gone = [job.job_id for job in over[:-KEPT_JOBS]]
        for job_id in gone:
            self._file(job_id).unlink(missing_ok=True)
        return gone

    def _file(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"

    def _note(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.cancel"

    def _draft(self, job: Job) -> Path:
        """Write a job to a file of its own, on the disk; returns the file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f"{job.job_id}.{uuid.uuid4().hex}.new"
        try:
            draft.write_text(json.dumps(asdict(job), ensure_ascii=True))
            _sync(draft)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        return draft

    def _remove_old_drafts(self) -> None:
        """Young ones may be another replica's, at this moment."""
        for draft in self._folder.glob("*.new"):
            try:
                if time.time() - draft.stat().st_mtime > DRAFT_S:
                    draft.unlink()
            except FileNotFoundError:
                continue  # it was another's


def _read(file: Path) -> Job:
    """Raises OSError, or ValueError where the file is damaged or of another version."""
    try:
        entry = json.loads(file.read_text())
        fields = entry["request"]
        request = JobRequest(
            **{**fields, "paths": tuple(fields["paths"]), "tags": tuple(fields["tags"])}
        )
        job = Job(**{**entry, "request": request, "documents": tuple(entry["documents"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a job of this version: {error!r}") from error
    if not _JOB_ID.fullmatch(file.stem) or job.job_id != file.stem:
        raise ValueError("its name is not that of the job in it")
    if job.status not in get_args(Status):
        raise ValueError(f"a status of another version: {job.status!r}")
    return job


def _sync(path: Path) -> None:
    """See to it that a file, or the names in a folder, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
