"""What nodes export, where some of them do not answer."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cluster.metrics import ask_nodes

NODES = 8


class Exporter(BaseHTTPRequestHandler):
    """Answers when all nodes have been asked, so that asking one after the other gets nothing."""

    asked: threading.Barrier

    def do_GET(self) -> None:
        self.asked.wait(timeout=10)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"quire_port {self.connection.getsockname()[1]}\n".encode())

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


def node(port: int) -> dict[str, Any]:
    return {"NodeManagerAddress": "127.0.0.1", "MetricsExportPort": port}


@pytest.fixture
def ports() -> Iterator[list[int]]:
    Exporter.asked = threading.Barrier(NODES)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Exporter))
            for _ in range(NODES)
        ]
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        yield [server.server_port for server in servers]


def test_nodes_are_asked_side_by_side_beside_those_that_are_silent(ports: list[int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nodes = [node(silent.getsockname()[1]), *map(node, ports)]
        first, *others = asyncio.run(ask_nodes(nodes))
    assert first == "# the metrics agent of 127.0.0.1 does not answer\n"
    assert others == [f"quire_port {port}\n" for port in ports]


def test_without_nodes_there_is_nothing() -> None:
    assert asyncio.run(ask_nodes([])) == []
