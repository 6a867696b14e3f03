"""Jobs of the service, and ways to wait for their end."""

import asyncio
import json
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jobs.ingest.report import DocumentReport, IngestReport, ReportWriter
from jobs.journal import Job, JobRequest
from serve.deployments.indexer import IndexerDeployment

ASKED = JobRequest("ingest", "acme", ("/srv/data/a.pdf",), ("tag",), {"year": 2026})


def a_report(*documents: DocumentReport, folder: Path | None = None) -> IngestReport:
    """A finished report, its file in a folder."""
    report = IngestReport("quire", "fingerprint")
    writer = ReportWriter(report, folder or Path(tempfile.mkdtemp()), "")
    for document in documents:
        writer.add(document)
    writer.close()
    return report


def an_id() -> str:
    return uuid.uuid4().hex


def a_job(number: int = 0, **changes: Any) -> Job:
    return replace(Job(an_id(), replace(ASKED, paths=(f"{number}.pdf",)), float(number)), **changes)


def in_journal(folder: Path, *jobs: Job) -> None:
    for job in jobs:
        (folder / f"{job.job_id}.json").write_text(json.dumps(asdict(job)))


async def ended(indexer: IndexerDeployment, job_id: str, within_s: float = 60.0) -> Job:
    """A job that is over."""
    async with asyncio.timeout(within_s):
        job = await indexer.job(job_id)
        while job and not job.is_over:
            job = await indexer.next_version(job_id, job.version, 1.0)
    assert job is not None
    return job


async def until(condition: Callable[[], object], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)
