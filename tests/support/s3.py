"""An S3 server on this machine (moto's), and a log of what it was asked.

Its address is in the environment before any test starts, so that Ray's workers and other child
processes find it; the server itself starts with the first test that asks for it.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import fsspec

from tests.support.jobs import an_id

BUCKET = "quire-tests"
_reserved: list[socket.socket] = []


class S3Request(NamedTuple):
    """One request: GET of a bucket is a list; `name` is the object's last part."""

    method: str
    name: str
    is_list: bool


def reserve_s3_address() -> None:
    """Take a port for the server, and tell it to every process that is started from now on."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    _reserved.append(listener)
    os.environ.update(
        AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{listener.getsockname()[1]}",
        AWS_ACCESS_KEY_ID="tests",
        AWS_SECRET_ACCESS_KEY="tests",
        AWS_DEFAULT_REGION="us-east-1",
    )


class S3Server:
    """The running server with one bucket; every request takes at least `latency_s`."""

    def __init__(self) -> None:
        self.latency_s = 0.0
        self._requests: list[S3Request] = []
        self._running = 0
        self._peak = 0
        self._lock = threading.Lock()

    def folder(self) -> str:
        """Return the URL of a folder that is nobody else's."""
        return f"s3://{BUCKET}/{an_id()}"

    def open_server(self) -> Any:
        """Return a WSGI server on the port that was reserved."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Silent(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"

            def log(self, *words: object) -> None:
                pass

        (listener,) = _reserved
        listener.listen(128)
        application = self._recorded(DomainDispatcherApplication(create_backend_app))
        host, port = listener.getsockname()
        return make_server(
            host,
            port,
            application,
            threaded=True,
            request_handler=Silent,
            fd=listener.fileno(),
        )

    @contextmanager
    def recorded(self, latency_s: float = 0.0) -> Iterator["Recording"]:
        """Record what the server is asked within the context."""
        with self._lock:
            start, self._peak = len(self._requests), 0
        recording = Recording()
        self.latency_s = latency_s
        try:
            yield recording
        finally:
            self.latency_s = 0.0
            recording.requests = self._requests[start:]
            recording.peak = self._peak

    def _recorded(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Any]:
        def record(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            is_object = bool(path.removeprefix(f"/{BUCKET}").strip("/"))
            name = path.rpartition("/")[2]
            with self._lock:
                self._requests.append(S3Request(method, name, method == "GET" and not is_object))
                self._running += 1
                self._peak = max(self._peak, self._running)
            try:
                time.sleep(self.latency_s)
                return application(environ, start_response)
            finally:
                with self._lock:
                    self._running -= 1

        return record


class Recording:
    """Requests in the order in which they came; `peak`: the most that ran at one time."""

    requests: list[S3Request]
    peak: int

    def methods(self) -> list[str]:
        return sorted(request.method for request in self.requests)


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """Start the server on a thread, with its bucket."""
    s3 = S3Server()
    server = s3.open_server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        fsspec.filesystem("s3").mkdir(BUCKET)
        yield s3
    finally:
        server.shutdown()
        thread.join()
