"""Processes that are started after a Milvus client: Ray starts its own with a hook, by a fork."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.services
FORKS = """
import signal, subprocess, sys
from cluster.settings import load_settings
from cluster.store.milvus import open_store

def hook():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

with open_store(load_settings(store=sys.argv[1])) as store:
    store.client.all_at_once([store.client.names] * 4)
    for _ in range(200):
        subprocess.run(["true"], preexec_fn=hook, check=True, timeout=10)
"""


def test_no_thread_of_grpc_wakes_in_a_child(tmp_path: Path) -> None:
    """One that did said so in about one of thirty, and sometimes the child never began."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(tmp_path / "store")],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "epoll_wait" not in done.stderr
