"""Jobs and their journal: one JSON file a job, so that a restart forgets none."""

import json
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cluster.core import Scalar

Status = Literal["queued", "running", "succeeded", "failed"]
KEPT_JOBS = 1000


@dataclass(frozen=True)
class JobRequest:
    """What a job is to do: index these stored files, or index them again."""

    kind: Literal["ingest", "reindex"]
    tenant: str
    paths: tuple[str, ...]
    tags: tuple[str, ...] = ()
    metadata: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A job as it stands; `version` grows with every change."""

    job_id: str
    request: JobRequest
    created: float
    status: Status = "queued"
    version: int = 0
    progress: dict[str, int] = field(default_factory=dict)
    documents: tuple[dict[str, Any], ...] = ()
    error: str = ""

    @property
    def is_over(self) -> bool:
        return self.status in ("succeeded", "failed")

    def changed(self, **changes: Any) -> "Job":
        return replace(self, version=self.version + 1, **changes)


class Journal:
    """The jobs of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new(self, request: JobRequest) -> Job:
        """Write down a queued job."""
        job = Job(uuid.uuid4().hex, request, time.time())
        self.save(job)
        return job

    def save(self, job: Job) -> None:
        """Write a job's state, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f"{job.job_id}.new"
        draft.write_text(json.dumps(asdict(job), ensure_ascii=True))
        draft.replace(self._folder / f"{job.job_id}.json")

    def load(self) -> dict[str, Job]:
        """Every job by id, oldest first; the oldest beyond the last thousand are dropped."""
        jobs = [_job(json.loads(file.read_text())) for file in self._folder.glob("*.json")]
        jobs.sort(key=lambda job: job.created)
        for job in jobs[:-KEPT_JOBS]:
            (self._folder / f"{job.job_id}.json").unlink()
        return {job.job_id: job for job in jobs[-KEPT_JOBS:]}


def _job(entry: dict[str, Any]) -> Job:
    asked = entry["request"]
    request = JobRequest(**{**asked, "paths": tuple(asked["paths"]), "tags": tuple(asked["tags"])})
    return Job(**{**entry, "request": request, "documents": tuple(entry["documents"])})
