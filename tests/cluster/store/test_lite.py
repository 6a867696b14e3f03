"""The Milvus Lite server: who starts it, who stops it, and what a kill costs."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cluster.errors import InvalidInput, StoreUnavailable
from cluster.settings import load_settings
from cluster.store.milvus import MilvusStore, open_store
from tests.support.store import FINGERPRINT, a_document, a_row, add, search, servers_of, settings_in

pytestmark = pytest.mark.services


@contextmanager
def another_user(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that uses the store of a folder until its input closes, and the address it got."""
    code = (
        "import sys; from cluster.store.lite import MilvusLiteServer; from pathlib import Path;"
        "server = MilvusLiteServer(Path(sys.argv[1])); print(server.uri, flush=True);"
        "sys.stdin.read(); server.close()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "milvus")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        yield process, process.stdout.readline().strip()


def is_alive(process: psutil.Process) -> bool:
    """False as well for a process that has ended and that its parent has yet to reap."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_server_listens_on_loopback_only(folder: Path, store: MilvusStore) -> None:
    [server] = servers_of(folder)
    listening = [c for c in server.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    addresses = {c.laddr.ip.removeprefix("::ffff:") for c in listening}
    assert addresses == {"127.0.0.1"}
    assert store.address.uri == f"http://127.0.0.1:{listening[0].laddr.port}"


def test_the_last_user_stops_the_server(tmp_path: Path) -> None:
    with another_user(tmp_path) as (process, uri):
        with open_store(settings_in(tmp_path)) as store:
            assert store.address.uri == uri
        [server] = servers_of(tmp_path)  # we left; the other still uses it
        process.communicate()
        assert process.returncode == 0
    assert not is_alive(server)
    assert servers_of(tmp_path) == []


def test_the_server_outlives_the_one_who_started_it(tmp_path: Path) -> None:
    with another_user(tmp_path) as (process, uri), open_store(settings_in(tmp_path)) as store:
        process.communicate()
        assert store.address.uri == uri
        store.open_collection(FINGERPRINT)
        assert store.count_pages() == 0
    assert servers_of(tmp_path) == []


def test_a_killed_user_does_not_block_the_next(tmp_path: Path) -> None:
    with another_user(tmp_path) as (process, uri):
        process.kill()
    with open_store(settings_in(tmp_path)) as store:
        assert store.address.uri == uri  # the server it left behind
    assert servers_of(tmp_path) == []


def test_a_killed_server_is_started_again_with_its_data(tmp_path: Path) -> None:
    document = a_document()
    with open_store(settings_in(tmp_path)) as store:
        store.open_collection(FINGERPRINT)
        add(store, *(a_row(document, page, text="kept") for page in (1, 2, 3)))
        [server] = servers_of(tmp_path)
        server.kill()
    with open_store(settings_in(tmp_path)) as store:
        assert store.documents() == [document]
        assert {hit.page for hit in search(store, "kept", "hybrid")} == {1, 2, 3}
    assert servers_of(tmp_path) == []


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput), open_store(settings_in(tmp_path)) as store:
        store.open_collection(FINGERPRINT)
        search(store, "", "text")
    assert servers_of(tmp_path) == []


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://nowhere.invalid:19530"])
def test_a_server_that_is_not_there_is_named(uri: str) -> None:
    with (
        pytest.raises(StoreUnavailable, match=re.escape(uri)),
        open_store(load_settings(store=uri)),
    ):
        pass


def test_an_address_that_is_none_is_refused() -> None:
    with (
        pytest.raises((InvalidInput, StoreUnavailable)),
        open_store(load_settings(store="http://localhost:milvus")),
    ):
        pass
