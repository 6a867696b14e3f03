"""The embedded Milvus Lite server: one a data folder, shared by every process that uses it.

Invariants: whoever uses the server holds a shared lock on `users.lock`, which the system releases
even when a process is killed; starting and stopping happen under `start.lock`; the last user stops
the server. It listens on loopback only. Milvus Lite 2.5.1 is the C++ one: docs/experiments.md has
the measurements against 3.x.
"""

import fcntl
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import psutil

from cluster.environment import child_environment, free_port
from cluster.errors import StoreUnavailable

HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02


class MilvusLiteServer:
    """A share in the server of one data folder; `uri` is where it listens."""

    def __init__(self, folder: Path) -> None:
        """Join the folder's running server, or start it. Raises StoreUnavailable."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._users = (folder / "users.lock").open("a")
        with self._starting():
            fcntl.flock(self._users, fcntl.LOCK_SH)
            port = self._running_port() or self._start()
        self.uri = f"http://{HOST}:{port}"

    def is_running(self) -> bool:
        """True while the server that we joined is still that process."""
        return self._process() is not None and self.uri.endswith(f":{self._known_port()}")

    def revive(self) -> None:
        """Start the server again where it ended, at the address that its users know."""
        if self.is_running():
            return
        with self._starting():
            if not self.is_running():
                self._start(int(self.uri.rpartition(":")[2]))

    def close(self) -> None:
        """Leave the server; stop it where nobody else uses it."""
        if self._users.closed:
            return
        with self._starting():
            fcntl.flock(self._users, fcntl.LOCK_UN)
            if _try_exclusive(self._users):
                self._stop()
            self._users.close()

    @contextmanager
    def _starting(self) -> Iterator[None]:
        with (self.folder / "start.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @property
    def _state_file(self) -> Path:
        return self.folder / "server.json"

    def _process(self) -> psutil.Process | None:
        """Return the running server of this folder; never another process that got its number."""
        try:
            state = json.loads(self._state_file.read_text())
            process = psutil.Process(state["pid"])
            same = abs(process.create_time() - state["created"]) < 1
        except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
            return None
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None

    def _running_port(self) -> int | None:
        if self._process() is None:
            return None
        port = self._known_port()
        return port if _answers(port) else None

    def _known_port(self) -> int:
        return int(json.loads(self._state_file.read_text())["port"])

    def _start(self, port: int = 0) -> int:
        """Start the server at a port, or at a free one; returns the port."""
        self._stop()  # a server that does not answer holds the data folder's lock
        library = _library_folder()
        port = port or free_port()
        log = (self.folder / "server.log").open("ab")
        with log:
            process = subprocess.Popen(
                [
                    str(library / "milvus"),
                    str(self.folder / "milvus.db"),
                    f"{HOST}:{port}",
                    "ERROR",
                ],
                env=child_environment(LD_LIBRARY_PATH=str(library)),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it outlives us where another process uses it
            )
        created = psutil.Process(process.pid).create_time()
        self._state_file.write_text(
            json.dumps({"pid": process.pid, "port": port, "created": created})
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        # Not whether anything answers there: another process may have taken the port meanwhile.
        while not _listens(process.pid, port):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise StoreUnavailable(
                    f"Milvus Lite did not start in {self.folder}: see {self.folder}/server.log"
                )
            time.sleep(POLL_S)
        return port

    def _stop(self) -> None:
        process = self._process()
        if process is not None:
            process.terminate()
            deadline = time.monotonic() + STOP_TIMEOUT_S
            # Not process.wait(): a server that another process started stays a zombie until that
            # one ends.
            while self._process() is not None:
                if time.monotonic() > deadline:
                    process.kill()
                    break
                time.sleep(POLL_S)
            with suppress(psutil.TimeoutExpired):
                process.wait(0)  # reaps our own
        self._state_file.unlink(missing_ok=True)


def _try_exclusive(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _listens(pid: int, port: int) -> bool:
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return False
    listening = {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
    return port in listening


def _library_folder() -> Path:
    spec = find_spec("milvus_lite")
    if spec is None or spec.origin is None:
        raise StoreUnavailable(
            "milvus-lite is not installed on this platform: set `store` to a Milvus server's URL"
        )
    return Path(spec.origin).parent / "lib"
