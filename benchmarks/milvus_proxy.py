"""A proxy in front of Milvus that makes every call wait, as one of a busy server does.

It passes gRPC calls on as bytes, counts them, and knows how many of them had to wait for each
other, which is what a caller feels of a slow server.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

CALLS_AT_ONCE = 64
MAX_BYTES = 256 * 2**20
OPTIONS = [("grpc.max_receive_message_length", MAX_BYTES), ("grpc.max_send_message_length", -1)]
UNSEEN = {"Connect"}  # of pymilvus, once for each connection


@dataclass(frozen=True)
class Call:
    """One call: what was asked, and when it began and ended."""

    method: str
    began: float
    ended: float


class MilvusProxy(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Passes calls on to a Milvus, each after `latency_s`."""

    def __init__(self, target: str, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self._channel = grpc.insecure_channel(target.removeprefix("http://"), OPTIONS)
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        pass_on = self._channel.unary_unary(details.method)
        name = details.method.rpartition("/")[2]

        def handle(request: bytes, context: grpc.ServicerContext) -> Any:
            began = time.monotonic()
            time.sleep(self.latency_s)
            try:
                return pass_on(request, metadata=context.invocation_metadata())
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            finally:
                with self._lock:
                    self._calls.append(Call(name, began, time.monotonic()))

        return grpc.unary_unary_rpc_method_handler(handle)

    @contextmanager
    def watched(self) -> Iterator[list[Call]]:
        """Gather the calls that are made meanwhile; the list is whole at the end."""
        calls: list[Call] = []
        before = len(self._calls)
        yield calls
        with self._lock:
            calls += [call for call in self._calls[before:] if call.method not in UNSEEN]

    def close(self) -> None:
        self._channel.close()


def trips_in_sequence(calls: list[Call]) -> int:
    """Return the length of the longest row of calls each of which began after the one before."""
    trips, waited_until = 0, 0.0
    for call in sorted(calls, key=lambda call: call.ended):
        if call.began >= waited_until:
            trips, waited_until = trips + 1, call.ended
    return trips


@contextmanager
def milvus_proxy(target: str, latency_s: float = 0.0) -> Iterator[tuple[MilvusProxy, str]]:
    """A proxy, and the address at which it listens."""
    proxy = MilvusProxy(target, latency_s)
    server = grpc.server(ThreadPoolExecutor(CALLS_AT_ONCE), handlers=[proxy], options=OPTIONS)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield proxy, f"http://127.0.0.1:{port}"
    finally:
        server.stop(grace=None)
        proxy.close()
