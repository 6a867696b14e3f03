"""A store that a service keeps open: gone and back, and nobody waits for one that hangs."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.core import Filter
from cluster.errors import StoreUnavailable
from cluster.settings import Settings, load_settings
from cluster.store.connection import StoreConnection
from cluster.store.milvus import open_store
from models.options import EmbedderOptions

pytestmark = pytest.mark.services

PATIENCE_S = 60.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An embedded store with an empty collection; one call may take a second."""
    settings = load_settings(store=str(tmp_path / "store"), store_timeout_s=1)
    with open_store(settings) as store:
        options = EmbedderOptions.from_settings(settings, has_gpu=False)
        store.open_collection(options.fingerprint(options.resolved_precision))
    return settings


@pytest.fixture
def link(settings: Settings) -> Iterator[StoreConnection]:
    link = StoreConnection(settings)
    until_open(link)
    yield link
    link.close()


def until_open(link: StoreConnection) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert link.store().count_pages(Filter()) == 0
            return
        except StoreUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def server(settings: Settings) -> psutil.Process:
    state = settings.data_dir / "milvus" / "server.json"
    return psutil.Process(json.loads(state.read_text())["pid"])


def test_a_killed_server_is_started_again(settings: Settings, link: StoreConnection) -> None:
    server(settings).kill()
    with pytest.raises(StoreUnavailable):
        for _ in range(1000):
            link.store().count_pages(Filter())
    link.failed()
    until_open(link)


def test_a_killed_server_is_started_again_where_nothing_is_indexed_yet(tmp_path: Path) -> None:
    settings = load_settings(store=str(tmp_path / "empty"), store_timeout_s=1)
    link = StoreConnection(settings)
    until_open(link)
    killed = server(settings)
    killed.kill()
    killed.wait(PATIENCE_S)
    link.failed()
    until_open(link)
    assert server(settings).pid != killed.pid
    link.close()


def thread_status(pid: int, thread: int) -> str:
    """Return the state of a thread as Linux has it, in one letter: T, stopped."""
    stat = Path(f"/proc/{pid}/task/{thread}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


def test_nobody_waits_for_a_server_that_hangs(settings: Settings, link: StoreConnection) -> None:
    process = server(settings)
    process.send_signal(signal.SIGSTOP)
    while any(thread_status(process.pid, each.id) != "T" for each in process.threads()):
        time.sleep(0.01)  # one that runs on for a moment may still answer
    try:
        with pytest.raises(StoreUnavailable, match="did not answer"):
            link.store().count_pages(Filter())  # whoever is first waits for the limit
        link.failed()
        started = time.monotonic()
        for _ in range(20):
            with pytest.raises(StoreUnavailable):
                link.store()
        assert time.monotonic() - started < 2
    finally:
        process.send_signal(signal.SIGCONT)
    until_open(link)
    assert server(settings).pid == process.pid  # it was busy, not dead


def test_the_last_user_stops_the_server(settings: Settings) -> None:
    link = StoreConnection(settings)
    until_open(link)
    process = server(settings)
    link.close()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
