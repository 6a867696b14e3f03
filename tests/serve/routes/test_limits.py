"""Limits, errors, the edge."""

import http.client
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.client import data_url, problem
from tests.support.serving import Server


def test_a_small_file_of_many_pixels_is_refused_at_once(client: httpx.Client) -> None:
    out = io.BytesIO()
    Image.new("1", (13_000, 13_000)).save(out, "PNG")
    bomb = out.getvalue()
    assert len(bomb) < 100_000
    image = {"image": data_url(bomb)}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/v1/search", {"json": image}),
        ("/v1/search", {"files": {"image": ("b.png", bomb)}}),
        ("/v1/embeddings", {"json": {"input": image}}),
        ("/v1/rerank", {"json": {"query": "x", "documents": [image]}}),
    ]
    for url, body in requests:
        took = []
        for _ in range(3):  # the machine may be busy with something else
            started = time.monotonic()
            assert problem(client.post(url, **body)) == (413, "too_large")
            took.append(time.monotonic() - started)
        assert min(took) < 0.5


def test_no_url_and_no_path_is_opened(client: httpx.Client, tmp_path: Path) -> None:
    file = tmp_path / "page.png"
    Image.new("RGB", (64, 64)).save(file)
    for name in (f"file://{file}", str(file), "http://127.0.0.1:1/x.png", "s3://bucket/x.png"):
        assert problem(client.post("/v1/search", json={"image": name})) == (400, "invalid_input")
        embed = {"input": {"image": name}}
        assert problem(client.post("/v1/embeddings", json=embed)) == (400, "invalid_input")


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(
    server: Server,
    client: httpx.Client,
) -> None:
    huge = server.settings.max_body_bytes + 1
    connection = http.client.HTTPConnection("127.0.0.1", server.settings.port, timeout=60)
    connection.putrequest("POST", "/v1/search")
    connection.putheader("Content-Length", str(huge))
    connection.endheaders()
    response = connection.getresponse()  # nothing of the body was sent
    assert response.status == 413
    assert json.loads(response.read())["error"]["type"] == "too_large"
    connection.close()

    def endless() -> Iterator[bytes]:  # a body without a length
        for _ in range(huge // 2**20 + 1):
            yield b" " * 2**20

    assert problem(client.post("/v1/search", content=endless())) == (413, "too_large")


@pytest.mark.parametrize(
    ("method", "url", "body", "status"),
    [
        ("POST", "/v1/search", {}, 400),
        ("POST", "/v1/search", {"text": "x", "surprise": 1}, 400),
        ("POST", "/v1/search", {"text": "x", "top_k": 0}, 400),
        ("POST", "/v1/search", {"text": "x", "mode": "text", "image": "AAAA"}, 400),
        ("POST", "/v1/search", [1], 400),
        ("POST", "/v1/embeddings", {"input": ""}, 400),
        ("POST", "/v1/embeddings", {"input": [1, 2, 3]}, 400),
        ("POST", "/v1/embeddings", {}, 400),
        ("POST", "/v2/embed", {"model": "quire-tiny"}, 400),
        ("POST", "/v1/rerank", {"query": "x", "documents": []}, 400),
        ("POST", "/v1/rerank", {"query": "x", "documents": ["a"], "model": "other"}, 404),
        ("GET", "/v1/jobs/" + "0" * 32, None, 404),
        ("GET", "/v1/jobs/" + "0" * 32 + "/events", None, 404),
        ("GET", "/v1/nothing", None, 404),
        ("PUT", "/v1/search", None, 405),
    ],
)
def test_errors_have_one_shape(
    client: httpx.Client, method: str, url: str, body: Any, status: int
) -> None:
    response = client.request(method, url, json=body)
    assert problem(response)[0] == status, response.text


def test_a_request_has_its_own_deadline(client: httpx.Client) -> None:
    hurried = {"X-Request-Timeout-S": "0"}
    response = client.post("/v1/search", json={"text": "frame"}, headers=hurried)
    assert response.status_code == 503 and response.headers["retry-after"]


def test_another_site_cannot_speak_through_the_browser(client: httpx.Client) -> None:
    for headers in (
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},
        {"Origin": "null"},
    ):
        response = client.post("/v1/search", json={"text": "frame"}, headers=headers)
        assert problem(response) == (403, "forbidden")
    own = {"Origin": str(client.base_url).rstrip("/")}
    assert client.post("/v1/search", json={"text": "frame"}, headers=own).status_code == 200
