"""Jobs and uploads: what survives restarts, damage, full disks, and two of everything at once."""

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

import serve.deployments.indexer
import serve.deployments.journal
from cluster.errors import InvalidInput, NotFound, TooLarge
from cluster.settings import Settings, load_settings
from cluster.sources import without_folders
from jobs.ingest.report import DocumentReport, IngestReport
from jobs.ingest.run import IngestRequest
from serve.deployments.indexer import IndexerDeployment
from serve.deployments.journal import Job, JobRequest, Journal
from serve.uploads import Uploads, safe_name

ASKED = JobRequest("ingest", "acme", ("/srv/data/a.pdf",), ("tag",), {"year": 2026})


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.deployments.indexer, "LOOK_S", 0.02)
    monkeypatch.setattr(serve.deployments.indexer, "RETRY_S", 0.02)
    monkeypatch.setattr(serve.deployments.indexer, "SAVE_INTERVAL_S", 0.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(store=str(tmp_path / "store"))


@pytest.fixture
def folder(settings: Settings) -> Path:
    """The journal's folder."""
    path = settings.data_dir / "jobs"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The paths of every ingest that was run; each ends well at once."""
    done: list[tuple[str, ...]] = []

    def run(settings: Settings, request: IngestRequest, view: Any) -> IngestReport:
        done.append(request.paths)
        return a_report()

    monkeypatch.setattr(serve.deployments.indexer, "run_ingest", run)
    return done


def a_report(*documents: DocumentReport) -> IngestReport:
    return IngestReport("quire", "fingerprint", list(documents))


def an_id() -> str:
    return uuid.uuid4().hex


def a_job(number: int = 0, **changes: Any) -> Job:
    return replace(Job(an_id(), replace(ASKED, paths=(f"{number}.pdf",)), float(number)), **changes)


def in_journal(folder: Path, *jobs: Job) -> None:
    for job in jobs:
        (folder / f"{job.job_id}.json").write_text(json.dumps(asdict(job)))


async def ended(indexer: IndexerDeployment, job_id: str, within_s: float = 5.0) -> Job:
    """A job that is over."""
    async with asyncio.timeout(within_s):
        job = await indexer.job(job_id)
        while job and not job.is_over:
            job = await indexer.next_version(job_id, job.version, 1.0)
    assert job is not None
    return job


async def until(condition: Callable[[], object], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


# Jobs


def test_a_job_runs_and_its_end_is_on_disk(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[IngestRequest] = []

    def run(settings: Settings, request: IngestRequest, view: Any) -> IngestReport:
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


@pytest.mark.parametrize("job_id", ["", "../../secret", "A" * 32, "0" * 31, "\ud800", "0" * 5000])
def test_ids_are_no_paths(settings: Settings, folder: Path, job_id: str) -> None:
    (settings.data_dir / "secret.json").write_text("{}")
    with pytest.raises(InvalidInput):
        Journal(folder).new(job_id, ASKED)
    assert asyncio.run(IndexerDeployment(settings).job(job_id)) is None


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


def test_old_jobs_go_but_none_that_is_unfinished(
    settings: Settings, folder: Path, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.deployments.journal, "KEPT_JOBS", 100)
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

    def run(settings: Settings, request: IngestRequest, view: Any) -> IngestReport:
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


def test_two_replicas_run_a_job_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever has the lock runs the jobs of both, and both tell how they stand."""
    ran: list[str] = []
    go = threading.Event()

    def run(settings: Settings, request: IngestRequest, view: Any) -> IngestReport:
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
from serve.deployments.journal import JobRequest

def run(settings, request, view):
    print("runs", flush=True)
    time.sleep(60)

async def work():
    indexer = serve.deployments.indexer.IndexerDeployment(load_settings(store=sys.argv[1]))
    await indexer.submit(sys.argv[2], JobRequest("ingest", "acme", ("1.pdf",)))
    await asyncio.sleep(60)

serve.deployments.indexer.run_ingest = run
asyncio.run(work())
"""


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

    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as killed:
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

    def run(settings: Settings, request: IngestRequest, view: Any) -> IngestReport:
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


# Uploads


@pytest.fixture(params=["folder", "memory"])
def uploads_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "up") if request.param == "folder" else f"memory://{an_id()}"


def files_below(url: str) -> list[str]:
    fs, root = fsspec.core.url_to_fs(url)
    return sorted(fs.find(root)) if fs.exists(root) else []


def bytes_at(source: str) -> bytes:
    with fsspec.open(source, "rb") as file:
        return bytes(file.read())


def test_the_same_bytes_at_the_same_time(uploads_url: str) -> None:
    uploads = Uploads(uploads_url, 2**30)
    for _ in range(20):
        data = os.urandom(200_000)
        start = threading.Barrier(8)

        def put(number: int, data: bytes = data, start: threading.Barrier = start) -> str:
            start.wait()
            return uploads.put("acme", f"name {number % 2}.pdf", io.BytesIO(data))

        with ThreadPoolExecutor(8) as pool:
            sources = set(pool.map(put, range(8)))
        assert all(bytes_at(source) == data for source in sources)
        assert len(sources) <= 2
    assert not [file for file in files_below(uploads_url) if file.endswith(".part")]


def test_bytes_are_kept_once_under_their_first_name(uploads_url: str) -> None:
    uploads = Uploads(uploads_url, 100)
    first = uploads.put("acme", "first.pdf", io.BytesIO(b"x"))
    assert uploads.put("acme", "second.pdf", io.BytesIO(b"x")) == first
    assert uploads.put("other", "first.pdf", io.BytesIO(b"x")) != first
    assert len(files_below(uploads_url)) == 2
    with pytest.raises(TooLarge):
        uploads.put("acme", "big.pdf", io.BytesIO(bytes(101)))


def test_an_upload_that_breaks_off_leaves_nothing(uploads_url: str) -> None:
    class BreaksOff(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            if self.reads == 4:  # while it is copied
                raise OSError(28, "No space left on device")
            return super().read(size)

    uploads = Uploads(uploads_url, 2**30)
    with pytest.raises(OSError, match="No space"):
        uploads.put("acme", "a.pdf", BreaksOff(bytes(2**20)))
    assert files_below(uploads_url) == []


@pytest.mark.parametrize(
    "name",
    [
        "あ" * 500 + ".pdf",
        "é" * 500 + ".TIFF",
        "a" * 500 + ".png",
        "\ud800\udfff.pdf",
        "\ud83d a.pdf",
    ],
    ids=ascii,
)
def test_names_that_a_file_system_would_not_take(uploads_url: str, name: str) -> None:
    kept = safe_name(name)
    assert len(kept.encode()) <= 200
    assert kept[:1] == name[:1] or "\ud800" <= name[0] <= "\udfff"
    source = Uploads(uploads_url, 2**30).put(
        "acme", name, io.BytesIO(name.encode("utf-16", "replace"))
    )
    assert source.endswith(f"/{kept}")
    assert bytes_at(source)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/報告 2024.pdf", "報告 2024.pdf"),
        ("C:\\Users\\me\\a b.PDF", "a b.PDF"),
        ('a\x00\n"<>|?*:b.pdf', "a_b.pdf"),
        ("a\ud800b.pdf", "a_b.pdf"),
    ],
)
def test_names_are_safe(name: str, kept: str) -> None:
    assert safe_name(name) == kept


@pytest.mark.parametrize("name", ["", ".pdf", "..", "a.exe", "pdf", "\ud800", "a.pdf/"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        safe_name(name)
