"""The rendering process: hangs, swelling, deaths, and its end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from jobs.rendering.client import Renderer, RenderLimits
from tests.support.documents import ENGLISH, laughs
from tests.support.paths import ROOT
from tests.support.rendering import MIB, TARGET, refusal


def test_a_page_that_hangs(good: str, tmp_path: Path) -> None:
    endless = laughs(tmp_path / "laughs.pdf")
    with Renderer(RenderLimits(page_timeout_s=1)) as renderer:
        assert renderer.check(endless).pages == 1
        first = renderer.pid
        error = refusal(lambda: renderer.render(endless, 1, TARGET))
        assert (error.reason, error.skipped) == ("timeout", False)
        assert not is_running(first)
        assert renderer.render(good, 1, TARGET).text == ENGLISH
        assert renderer.pid != first


def test_a_document_of_slow_pages(good: str, tmp_path: Path) -> None:
    endless = laughs(tmp_path / "laughs.pdf")
    with Renderer(RenderLimits(page_timeout_s=1, document_timeout_s=1.5)) as renderer:
        for _ in range(2):  # the second is cut short, what is left is not tried
            assert refusal(lambda: renderer.render(endless, 1, TARGET)).reason == "timeout"
        assert "together" in str(refusal(lambda: renderer.render(endless, 1, TARGET)))
        renderer.start_shard()
        assert "together" not in str(refusal(lambda: renderer.render(endless, 1, TARGET)))
        assert renderer.render(good, 1, TARGET).text == ENGLISH


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by RLIMIT_AS on Linux only")
def test_a_page_that_swells(good: str, tmp_path: Path) -> None:
    swelling = laughs(tmp_path / "laughs.pdf")
    with Renderer(RenderLimits(memory_bytes=64 * MIB)) as renderer:
        error = refusal(lambda: renderer.render(swelling, 1, TARGET))
        assert (error.reason, error.skipped) == ("out_of_memory", False)
        assert renderer.render(good, 1, TARGET).text == ENGLISH


def test_a_process_that_dies_at_work(good: str, tmp_path: Path) -> None:
    endless = laughs(tmp_path / "laughs.pdf")
    with Renderer(RenderLimits()) as renderer:
        renderer.check(endless)
        assert renderer.pid
        killer = threading.Timer(0.3, os.kill, (renderer.pid, signal.SIGSEGV))
        killer.start()
        error = refusal(lambda: renderer.render(endless, 1, TARGET))
        killer.join()
        assert (error.reason, error.skipped) == ("crashed", False)
        assert "SIGSEGV" in str(error)
        assert renderer.render(good, 1, TARGET).text == ENGLISH


def test_a_process_that_dies_idle_costs_no_page(good: str) -> None:
    with Renderer(RenderLimits()) as renderer:
        renderer.check(good)
        assert renderer.pid
        os.kill(renderer.pid, signal.SIGKILL)
        time.sleep(0.1)
        assert renderer.render(good, 1, TARGET).text == ENGLISH


def test_no_process_is_left_after_close(good: str) -> None:
    renderer = Renderer(RenderLimits())
    assert renderer.pid is None
    renderer.check(good)
    first = renderer.pid
    assert is_running(first)
    renderer.close()
    assert not is_running(first)
    assert renderer.check(good).pages == 1  # and it can be used again
    renderer.close()


@pytest.mark.parametrize("at_work", [False, True])
def test_no_process_survives_its_caller(good: str, tmp_path: Path, at_work: bool) -> None:
    path = laughs(tmp_path / "laughs.pdf") if at_work else good
    program = (
        "import sys; from jobs.rendering.client import *\n"
        "renderer = Renderer(RenderLimits(page_timeout_s=1.5))\n"
        f"renderer.check({path!r}); print(renderer.pid, flush=True)\n"
        f"renderer.render({path!r}, 1, RenderTarget(4096, 600_000)); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as caller:
        assert caller.stdout
        pid = int(caller.stdout.readline())
        time.sleep(0.3)
        assert is_running(pid)
        caller.kill()
    deadline = time.monotonic() + 60
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(pid: int | None) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
