"""A running service over the made-up library, as people start it: `quire serve`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from cluster.environment import free_port
from cluster.settings import Settings, load_settings
from tests.support.paths import ROOT

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 40.0


@dataclass(frozen=True)
class Server:
    """Where the service listens, what it searches, and the folder of its data."""

    url: str
    library: Path
    settings: Settings
    pid: int

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)  # type: ignore[arg-type]


@contextmanager
def running(library: Path, store: Path, *flags: str, **environment: str) -> Iterator[Server]:
    """`quire serve` in a process of its own until the context is left."""
    port = free_port()
    to_store = ("--store", str(store))
    log = store.parent / f"serve-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "quire", "serve", "--port", str(port), *to_store, *flags],
            cwd=store.parent,
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process, log)
        yield Server(url, library, load_settings(store=str(store), port=port), process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.25)
    raise AssertionError(f"not ready in {START_TIMEOUT_S} s: {log.read_text()}")


def quire(*arguments: str) -> str:
    """Run a command of `quire`; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "quire", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
