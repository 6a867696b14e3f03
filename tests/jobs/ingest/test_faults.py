"""What breaks while 500 pages are ingested, and what is there afterwards."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.faults import (
    PAGES,
    POISONED,
    embedded,
    embedded_twice,
    indexed,
    ingest,
    milvus_of,
    renderers,
    wait_until_quiet,
    workers,
    write_survey,
)
from tests.support.paths import ROOT
from tests.support.ray_process import RayProcess

pytestmark = pytest.mark.long
SLOW: dict[str, Any] = {"max_pixels": 131_072}  # some 10 pages a second: time for many kills


@pytest.fixture
def folder(tmp_path: Path, ray_process: RayProcess) -> Path:
    """A folder with the survey, and no other Ray beside its ingest."""
    ray_process.stop()
    write_survey(tmp_path)
    return tmp_path


def assert_whole(folder: Path, report: Any) -> None:
    """Every page is there exactly once: its own row and the one of its only chunk."""
    assert report.get("states") == {"indexed": 1}, report
    there = indexed(folder)
    assert there.document.status == "indexed" and not there.document.error
    assert there.pages == set(range(1, PAGES + 1))
    assert there.rows == 2 * PAGES


@contextmanager
def killing(processes: Any, every_s: float) -> Iterator[list[int]]:
    """SIGKILL one of some processes again and again; gives how often, as it goes."""
    done, killed = threading.Event(), [0]

    def kill() -> None:
        while not done.wait(every_s):
            for process in processes()[:1]:
                process.kill()
                killed[0] += 1

    thread = threading.Thread(target=kill)
    thread.start()
    yield killed
    done.set()
    thread.join()


def test_the_renderer_and_embedding_workers_are_killed(folder: Path) -> None:
    with ingest(folder, **SLOW) as run, killing(renderers, 4) as renderers_killed:
        for pages in (PAGES // 4, PAGES // 2):
            run.wait_for_pages(pages)
            (worker,) = workers("Counting")
            worker.kill()
        assert_whole(folder, run.end())
    assert renderers_killed[0] > 2


def test_the_driver_is_killed_in_the_middle_and_run_again(folder: Path) -> None:
    with ingest(folder, **SLOW) as first:
        first.wait_for_pages(PAGES // 2)
        first.process.kill()
    wait_until_quiet()
    before = indexed(folder)
    assert before.document.status == "indexing"
    with ingest(folder, **SLOW) as second:
        assert_whole(folder, second.end())
    assert indexed(folder).document.doc_id == before.document.doc_id
    assert embedded_twice(folder) <= PAGES * 0.1


def test_an_interruption_ends_it_soon_and_says_how_to_go_on(folder: Path) -> None:
    command = [sys.executable, "-m", "quire", "ingest", "survey.pdf", "--store", "data"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if '"pages_done": 0' not in line:
                break
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - began < 10
    assert process.returncode == 130 and "the same command goes on from there" in errors
    assert "Traceback" not in errors


def test_a_page_that_ends_its_worker_costs_no_neighbour(folder: Path) -> None:
    with ingest(folder, embedder="Poisoned") as run:
        report = run.end()
    (document,) = report["documents"]
    assert document["state"] == "indexed" and list(document["failed_pages"]) == [str(POISONED)]
    assert "worker_ended" in document["failed_pages"][str(POISONED)]
    assert embedded(folder).count(-POISONED) <= 3
    assert indexed(folder).pages == set(range(1, PAGES + 1)) - {POISONED}


def test_a_worker_that_blocks_is_named_and_replaced(folder: Path) -> None:
    with ingest(folder, embedder="Blocked", worker_timeout_s=15) as run:
        report = run.end()
    assert_whole(folder, report)
    (stuck,) = report["stuck"]
    assert "embedding worker" in stuck and "survey.pdf" in stuck


def test_two_commands_at_once_index_it_once(folder: Path) -> None:
    with ingest(folder) as first, ingest(folder) as second:
        reports = [first.end(), second.end()]
    states = sorted(each["documents"][0]["state"] for each in reports)
    assert "indexed" in states and "failed" not in states, reports
    assert_whole(folder, next(each for each in reports if each["states"] == {"indexed": 1}))


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_milvus_is_away(folder: Path, how: str) -> None:
    """Stopped for 30 s, or killed: the ingest waits and goes on."""
    with ingest(folder, **SLOW) as run:
        run.wait_for_pages(PAGES // 4)
        milvus = milvus_of(folder)
        if how == "killed":
            milvus.kill()
        else:
            milvus.suspend()
            time.sleep(30)
            milvus.resume()
        assert_whole(folder, run.end())


def test_the_disk_of_the_page_files_is_full(folder: Path) -> None:
    small = folder / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        with ingest(folder, page_images=str(small)) as run:
            report = run.end()
        there = indexed(folder)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert report["error"] == "FilesUnavailable"
    assert "No space left" in report["message"] and "make room" in report["message"]
    assert len(there.pages) < PAGES
    assert psutil.disk_usage(str(folder)).free
    with ingest(folder, page_images=str(folder / "large")) as run:
        assert_whole(folder, run.end())


def test_a_machine_leaves_in_the_middle(folder: Path) -> None:
    command = [sys.executable, "-m", "tests.support.lost_node", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.stdout, done.stderr[-4000:]  # Ray, half of which is gone, may end with an error
    result = json.loads(done.stdout.splitlines()[-1])
    for ingest_result in result.values():
        assert ingest_result["states"] == {"indexed": 1} and ingest_result["status"] == "indexed"
        assert (ingest_result["pages"], ingest_result["rows"]) == (PAGES, 2 * PAGES)
    assert result["lost"]["left"]
    assert result["lost"]["seconds"] <= 2 * result["clean"]["seconds"], result
