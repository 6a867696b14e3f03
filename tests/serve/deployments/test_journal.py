"""The journal of jobs: old ones, damage, full disks."""

import asyncio
import json
import logging
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import jobs.journal
import serve.deployments.indexer
from cluster.errors import InvalidInput
from cluster.settings import Settings
from jobs.ingest.report import IngestReport
from jobs.ingest.request import IngestRequest
from jobs.journal import Job, Journal
from serve.deployments.indexer import IndexerDeployment
from tests.support.jobs import ASKED, a_job, a_report, an_id, ended, in_journal, until

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.mark.parametrize("job_id", ["", "../../secret", "A" * 32, "0" * 31, "\ud800", "0" * 5000])
def test_ids_are_no_paths(settings: Settings, folder: Path, job_id: str) -> None:
    (settings.data_dir / "secret.json").write_text("{}")
    with pytest.raises(InvalidInput):
        Journal(folder).new(job_id, ASKED)
    assert asyncio.run(IndexerDeployment(settings).job(job_id)) is None


def test_old_jobs_go_but_none_that_is_unfinished(
    settings: Settings, folder: Path, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.journal, "KEPT_JOBS", 100)
    over = [a_job(number, status="succeeded") for number in range(130)]
    waiting = [a_job(number - 1000) for number in range(120)]  # older than all of them
    in_journal(folder, *over, *waiting)
    newest = an_id()

    async def work() -> None:
        indexer = IndexerDeployment(settings)
        await indexer.submit(newest, ASKED)
        assert (await ended(indexer, newest)).status == "succeeded"
        await until(lambda: len(list(folder.glob("*.json"))) == 100)
        assert await indexer.job(over[0].job_id) is None
        assert await indexer.job(over[-1].job_id) == over[-1]

    asyncio.run(work())
    assert len(runs) == 121


def test_damaged_files_are_set_aside_and_the_rest_goes_on(
    settings: Settings, folder: Path, runs: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    good = a_job()
    in_journal(folder, good)
    entry = json.loads((folder / f"{good.job_id}.json").read_text())
    damaged = {
        an_id(): "",
        an_id(): json.dumps(entry)[:40],
        an_id(): "null",
        an_id(): json.dumps(entry),  # another's
        (later := an_id()): json.dumps(entry | {"job_id": later, "priority": 1}),
        (sooner := an_id()): json.dumps({"job_id": sooner, "status": "queued"}),
        (other := an_id()): json.dumps(entry | {"job_id": other, "status": "paused"}),
    }
    for job_id, text in damaged.items():
        (folder / f"{job_id}.json").write_text(text)
    (folder / f"{an_id()}.json").write_bytes(b"\xff\xfe\x00")
    for name, age_s in (("old.new", 3600), ("young.new", 0)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age_s,) * 2)

    async def work() -> None:
        indexer = IndexerDeployment(settings)
        assert await indexer.job(later) is None
        assert (await ended(indexer, good.job_id)).status == "succeeded"

    with caplog.at_level(logging.ERROR, "ray.serve"):
        asyncio.run(work())
    assert len(runs) == 1
    assert {file.stem for file in folder.glob("*.bad")} >= set(damaged)
    assert len(list(folder.glob("*.bad"))) == len(damaged) + 1
    assert [file.stem for file in folder.glob("*.json")] == [good.job_id]
    assert [file.name for file in folder.glob("*.new")] == ["young.new"]
    assert all(job_id in caplog.text for job_id in damaged)


@pytest.mark.parametrize("failing", ["running", "progress", "succeeded"])
def test_a_full_disk_loses_no_job(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    ran: list[str] = []
    real_save, refused = Journal.save, threading.Event()

    def run(
        settings: Settings, request: IngestRequest, view: Any, ask_stop: Any, *_: Any
    ) -> IngestReport:
        ran.append(request.paths[0])
        view.update(SimpleNamespace(**dict.fromkeys(serve.deployments.indexer.PROGRESS, 1)))
        return a_report()

    def save(journal: Journal, job: Job) -> None:
        state = "progress" if job.status == "running" and job.progress else job.status
        if state == failing and not refused.is_set():
            refused.set()
            raise OSError(28, "No space left on device")
        real_save(journal, job)

    monkeypatch.setattr(serve.deployments.indexer, "run_ingest", run)
    monkeypatch.setattr(Journal, "save", save)

    async def work() -> None:
        indexer, first, second = IndexerDeployment(settings), an_id(), an_id()
        await indexer.submit(first, replace(ASKED, paths=("1.pdf",)))
        await indexer.submit(second, replace(ASKED, paths=("2.pdf",)))
        for job_id in (first, second):
            job = await ended(indexer, job_id)
            assert job.status == "succeeded"
            assert Journal(settings.data_dir / "jobs").find_job(job_id) == job

    asyncio.run(work())
    assert refused.is_set()
    assert sorted(ran) == ["1.pdf", "2.pdf"]


def test_what_cannot_be_written_down_is_not_accepted(
    settings: Settings, folder: Path, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def work() -> None:
        indexer, job_id = IndexerDeployment(settings), an_id()
        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                await indexer.submit(job_id, ASKED)
        assert list(folder.glob("*.new")) == []
        assert await indexer.job(job_id) is None
        await indexer.submit(job_id, ASKED)
        assert (await ended(indexer, job_id)).status == "succeeded"

    asyncio.run(work())
