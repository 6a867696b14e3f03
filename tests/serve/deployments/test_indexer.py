"""Jobs: what survives restarts, kills, and two of everything at once."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import serve.deployments.indexer
from cluster.errors import NotFound, Overloaded
from cluster.settings import Settings
from cluster.sources import without_folders
from jobs.ingest.report import DocumentReport, IngestReport
from jobs.ingest.request import IngestRequest, Stopped
from jobs.journal import Job, Journal
from serve.deployments.indexer import CANCELLED, MAX_ATTEMPTS, IndexerDeployment, next_job
from tests.support.jobs import ASKED, a_job, a_report, an_id, ended, in_journal, until
from tests.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("short_pauses")


def test_a_job_runs_and_its_end_is_on_disk(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[IngestRequest] = []

    def run(
        settings: Settings, request: IngestRequest, view: Any, ask_stop: Any, *_: Any
    ) -> IngestReport:
        asked.append(request)
        with view:
            for done in range(1, 4):
                counts = dict.fromkeys(serve.deployments.indexer.PROGRESS, 0) | {"pages_done": done}
                view.update(SimpleNamespace(**counts))
        return a_report(DocumentReport("/srv/data/a.pdf", "indexed", pages=3))

    monkeypatch.setattr(serve.deployments.indexer, "run_ingest", run)

    async def work() -> Job:
        indexer, job_id = IndexerDeployment(settings), an_id()
        queued = await indexer.submit(job_id, replace(ASKED, kind="reindex"))
        assert (queued.job_id, queued.status, queued.version) == (job_id, "queued", 0)
        assert await indexer.job(an_id()) is None
        return await ended(indexer, job_id)

    job = asyncio.run(work())
    assert (job.status, job.progress["pages_done"]) == ("succeeded", 3)
    assert job.documents[0]["source"] == "a.pdf"
    assert asked[0].reindex and asked[0].metadata == {"year": 2026}
    assert Journal(folder).find_job(job.job_id) == job


def test_to_submit_twice_is_to_submit_once(settings: Settings, runs: list[Any]) -> None:
    async def work() -> None:
        indexer, job_id = IndexerDeployment(settings), an_id()
        first = await asyncio.gather(*(indexer.submit(job_id, ASKED) for _ in range(8)))
        assert {job.created for job in first} == {first[0].created}
        done = await ended(indexer, job_id)
        assert await indexer.submit(job_id, ASKED) == done

    asyncio.run(work())
    assert len(runs) == 1


def test_unfinished_jobs_are_run_in_their_order(
    settings: Settings, folder: Path, runs: list[Any]
) -> None:
    jobs = [a_job(3), a_job(1, status="running", version=4), a_job(2, status="failed"), a_job(0)]
    in_journal(folder, *jobs)

    async def work() -> Job:
        indexer = IndexerDeployment(settings)
        await indexer.check_health()  # all that Ray Serve calls after a restart
        return await ended(indexer, jobs[0].job_id)

    assert asyncio.run(work()).status == "succeeded"
    assert runs == [("0.pdf",), ("1.pdf",), ("3.pdf",)]


def test_two_replicas_run_a_job_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever has the lock runs the jobs of both, and both tell how they stand."""
    ran: list[str] = []
    go = threading.Event()

    def run(
        settings: Settings, request: IngestRequest, view: Any, ask_stop: Any, *_: Any
    ) -> IngestReport:
        ran.append(request.paths[0])
        view.update(SimpleNamespace(**dict.fromkeys(serve.deployments.indexer.PROGRESS, 7)))
        assert go.wait(5)
        return a_report()

    monkeypatch.setattr(serve.deployments.indexer, "run_ingest", run)

    async def work() -> None:
        old, new = IndexerDeployment(settings), IndexerDeployment(settings)
        first, second = an_id(), an_id()
        await old.submit(first, replace(ASKED, paths=("1.pdf",)))
        await until(lambda: ran)
        job = await new.next_version(first, 1, 5.0)
        assert job and (job.status, job.progress["pages"]) == ("running", 7)
        assert (await new.submit(first, ASKED)).status == "running"
        await new.submit(second, replace(ASKED, paths=("2.pdf",)))
        for replica in (old, new):
            seen = await replica.next_version(second, 0, 0.05)
            assert seen and seen.status == "queued"
        go.set()
        for replica in (new, old):
            for job_id in (first, second):
                assert (await ended(replica, job_id)).status == "succeeded"

    asyncio.run(work())
    assert ran == ["1.pdf", "2.pdf"]


KILLED = """
import asyncio, sys, time
import serve.deployments.indexer
from cluster.settings import load_settings
from jobs.journal import JobRequest

def run(settings, request, view, ask_stop, embedder):
    print("runs", flush=True)
    time.sleep(60)

async def work():
    indexer = serve.deployments.indexer.IndexerDeployment(load_settings(store=sys.argv[1]))
    await indexer.submit(sys.argv[2], JobRequest("ingest", "acme", ("1.pdf",)))
    await asyncio.sleep(60)

serve.deployments.indexer.run_ingest = run
asyncio.run(work())
"""


@pytest.mark.services
def test_the_jobs_of_a_killed_replica_are_taken_over(settings: Settings, runs: list[Any]) -> None:
    job_id = an_id()
    command = [sys.executable, "-c", KILLED, str(settings.data_dir), job_id]

    async def work(killed: "subprocess.Popen[str]") -> None:
        indexer = IndexerDeployment(settings)
        job = await indexer.next_version(job_id, 0, 5.0)
        assert job and job.status == "running"
        await asyncio.sleep(0.1)
        assert runs == []
        killed.kill()
        assert (await ended(indexer, job_id)).status == "succeeded"

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as killed:
        assert killed.stdout
        assert killed.stdout.readline() == "runs\n"
        asyncio.run(work(killed))
    assert runs == [("1.pdf",)]


def test_a_tenant_sees_names_of_files_only(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = "/srv/my data/acme/a.pdf"
    outcomes: list[Any] = [
        NotFound(f"there is nothing at {path}: name a file, a folder or a pattern"),
        RuntimeError(f"secret of {path}"),
        a_report(
            DocumentReport(path, "failed", message=f"rendering {path} gave nonsense"),
            DocumentReport(path, "indexed", failed_pages={2: f"crashed: {path} and /tmp/x/y.pdf"}),
        ),
    ]

    def run(
        settings: Settings, request: IngestRequest, view: Any, ask_stop: Any, *_: Any
    ) -> IngestReport:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        report: IngestReport = outcome
        return report

    monkeypatch.setattr(serve.deployments.indexer, "run_ingest", run)

    async def work() -> list[Job]:
        indexer = IndexerDeployment(settings)
        found = []
        for _ in range(3):
            job_id = an_id()
            await indexer.submit(job_id, replace(ASKED, paths=(path,)))
            found.append(await ended(indexer, job_id))
        return found

    with caplog.at_level(logging.WARNING, "ray.serve"):
        missing, broken, done = asyncio.run(work())
    assert missing.error == "there is nothing at a.pdf: name a file, a folder or a pattern"
    assert (
        broken.error == f"an unexpected error: look into the indexer's log for job {broken.job_id}"
    )
    assert f"secret of {path}" in caplog.text and broken.job_id in caplog.text
    assert done.documents[0]["message"] == "rendering a.pdf gave nonsense"
    assert done.documents[1]["failed_pages"] == {"2": "crashed: a.pdf and y.pdf"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no file '/a/b/c.pdf'", "no file 'c.pdf'"),
        ("s3://bucket/a/b.pdf is gone (/tmp/q/d.pdf)", "b.pdf is gone (d.pdf)"),
        ("text/plain and/or 1/2: set it to s3://…, or file://…", None),
        ("no Milvus answers at http://10.0.0.3:19530", None),
    ],
)
def test_folders_are_left_out_of_messages(said: str, told: str | None) -> None:
    assert without_folders(said) == (said if told is None else told)


def test_a_job_is_stopped_while_it_waits_and_while_it_runs(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def run(
        settings: Settings, request: IngestRequest, view: Any, ask_stop: Any, *_: Any
    ) -> IngestReport:
        while not (stop := ask_stop()):
            time.sleep(0.01)
        asked.append(stop)
        raise Stopped(stop)

    monkeypatch.setattr(serve.deployments.indexer, "run_ingest", run)

    async def work() -> None:
        indexer = IndexerDeployment(settings)
        running, waiting = an_id(), an_id()
        await indexer.submit(running, ASKED)
        await until(lambda: indexer._running == running)
        await indexer.submit(waiting, replace(ASKED, tenant="other"))
        for job_id in (waiting, running):
            await indexer.cancel(job_id)
            ended_job = await ended(indexer, job_id)
            assert (ended_job.status, ended_job.error) == ("cancelled", CANCELLED)
        assert await indexer.cancel(an_id()) is None
        listed, total = await indexer.list_jobs("other", None, 10, 0)
        assert ([job.job_id for job in listed], total) == ([waiting], 1)
        listed, total = await indexer.list_jobs(None, (), 1, 1)
        assert ([job.job_id for job in listed], total) == ([running], 2)

    asyncio.run(work())
    assert asked == ["cancel"]
    assert not list(folder.glob("*.cancel"))


def test_a_job_that_ends_its_indexer_is_set_aside(
    settings: Settings, folder: Path, runs: list[Any]
) -> None:
    """Where it had got on in between, it is not in vain."""
    vain = a_job(0, status="running", attempts=MAX_ATTEMPTS)
    useful = a_job(1, status="running", attempts=1, progress={"pages_done": 5})
    in_journal(folder, vain, useful)

    async def work() -> tuple[Job, Job]:
        indexer = IndexerDeployment(settings)
        return await ended(indexer, vain.job_id), await ended(indexer, useful.job_id)

    set_aside, done = asyncio.run(work())
    assert set_aside.status == "failed" and "ended the indexer 3 times" in set_aside.error
    assert done.status == "succeeded" and runs == [("1.pdf",)]


def test_tenants_take_turns_and_small_jobs_come_first() -> None:
    def job(number: int, tenant: str, size: int) -> Job:
        request = replace(ASKED, tenant=tenant, size_bytes=size)
        return a_job(number, request=request)

    huge, small, other = job(0, "a", 10**9), job(1, "a", 10**5), job(2, "b", 10**9)
    assert next_job([huge, small, other], {}) == small
    assert next_job([huge, other], {}) == huge  # the older one
    assert next_job([huge, small, other], {"a": 5.0}) == other
    assert next_job([huge, small, other], {"a": 5.0, "b": 6.0}) == small
    assert next_job([huge, small, other], {"a": 5.0}, huge) == other
    assert next_job([huge], {"a": 5.0}, huge) is None
    assert next_job([small, huge], {"a": 5.0}, small) is None


def test_a_job_makes_room_for_others_and_waits_for_a_gpu(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.deployments.indexer, "SLICE_S", 0.0)
    ran: list[str] = []

    def run(
        settings: Settings, request: IngestRequest, view: Any, ask_stop: Any, *_: Any
    ) -> IngestReport:
        ran.append(request.tenant)
        if request.tenant == "busy" and ran.count("busy") == 1:
            while not (stop := ask_stop()):
                time.sleep(0.01)
            raise Stopped(stop)
        if request.tenant == "small" and ran.count("small") == 1:
            raise Overloaded("no GPU is free")
        return a_report()

    monkeypatch.setattr(serve.deployments.indexer, "run_ingest", run)

    async def work() -> None:
        indexer = IndexerDeployment(settings)
        busy, small = an_id(), an_id()
        await indexer.submit(busy, replace(ASKED, tenant="busy", size_bytes=10**10))
        await until(lambda: indexer._running == busy)
        await indexer.submit(small, replace(ASKED, tenant="small"))
        for job_id in (busy, small):
            job = await ended(indexer, job_id)
            assert (job.status, job.attempts) == ("succeeded", 1)

    asyncio.run(work())
    assert ran[:2] == ["busy", "small"] and sorted(ran) == ["busy", "busy", "small", "small"]
