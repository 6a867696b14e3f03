"""What `quire search --url` says where a service refuses, is away, or is none."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.environment import free_port
from jobs.command import app


@dataclass
class Stand:
    """Answers every request with one status, headers and body, and remembers what was asked."""

    status: int = 200
    body: bytes = b'{"hits": []}'
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    url: str = ""


@contextmanager
def answering(stand: Stand) -> Iterator[Stand]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            stand.requests.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(stand.status)
            for name, value in stand.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(stand.body)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stand.url = f"http://127.0.0.1:{server.server_port}"
    yield stand
    server.shutdown()
    server.server_close()


def problem(message: str, param: str | None = None) -> bytes:
    return json.dumps({"error": {"type": "x", "message": message, "param": param}}).encode()


def ask(url: str, *flags: str, **environment: str) -> Any:
    return CliRunner().invoke(app, ["search", "seat tube", "--url", url, *flags], env=environment)


def test_what_is_sent(tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    shot.write_bytes(b"pixels")
    flags = "--top-k 3 --mode dense --tenant acme --tag a --tag b --meta year=2020 --max-cer 0.2"
    more = ("--rerank", "none", "--filter", '{"year": 2020}', "--collection", "other")
    with answering(Stand()) as stand:
        done = ask(
            stand.url, *flags.split(), *more, "--image", str(shot), QUIRE_API_KEY="quire_secret"
        )
    assert done.exit_code == 0, done.output
    assert "secret" not in done.output
    ((path, headers, body),) = stand.requests
    assert path == "/v1/search?collection=other"
    assert headers["Authorization"] == "Bearer quire_secret"
    filters = body.pop("filters")
    assert filters["metadata"] == {"year": 2020} and filters["tags"] == ["a", "b"]
    assert (filters["tenant"], filters["max_cer"], filters["min_cer"]) == ("acme", 0.2, None)
    assert body == {
        "text": "seat tube",
        "image": "cGl4ZWxz",
        "filter": {"year": 2020},
        "mode": "dense",
        "rerank": "none",
        "top_k": 3,
    }


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, problem("unknown test", "filter.year"), "InvalidInput: filter.year: unknown test"),
        (401, problem("send a key"), "Unauthorized: .* wants a key: set QUIRE_API_KEY"),
        (403, problem("not for search"), "Forbidden: not for search"),
        (404, problem("no collection"), "NotFound: no collection"),
        (503, problem("busy"), "ServiceUnavailable: .* answers 503: busy; try again in 2 s"),
        (500, b"<html>", "ServiceUnavailable: .* is it the address of `quire serve`"),
        (200, b"<html>", "ServiceUnavailable: .* is it the address of `quire serve`"),
        (200, b'{"answer": 1}', "ServiceUnavailable: .* is it the address of `quire serve`"),
    ],
)
def test_refusals_say_what_to_do(status: int, body: bytes, words: str) -> None:
    with answering(Stand(status, body, {"Retry-After": "2"})) as stand:
        done = ask(stand.url)
    assert done.exit_code == 2
    assert_matches(words, done.stderr)


def test_a_key_goes_to_no_other_address() -> None:
    with answering(Stand()) as other:
        moved = Stand(302, b"", {"Location": other.url})
        with answering(moved) as stand:
            done = ask(stand.url, QUIRE_API_KEY="quire_secret")
    assert done.exit_code == 2 and not other.requests


def test_nobody_there() -> None:
    done = ask(f"http://127.0.0.1:{free_port()}")
    assert done.exit_code == 2
    assert_matches("ServiceUnavailable: .*cannot be reached.*is `quire serve` running", done.stderr)


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "http://"])
def test_an_address_that_is_none(url: str) -> None:
    done = ask(url)
    assert done.exit_code == 2
    assert_matches("InvalidInput: .*write http://host:8000", done.stderr)


def test_flags_of_this_machine_are_named() -> None:
    done = ask("http://127.0.0.1:1", "--store", "x", "--evidence", "out", "--dense-weight", "0.5")
    assert done.exit_code == 2
    assert_matches("leave out --dense-weight, --evidence, --store", done.stderr)


def assert_matches(words: str, output: str) -> None:
    """The error is one line."""
    assert re.search(words, output), output
    assert len(output.strip().splitlines()) == 1
