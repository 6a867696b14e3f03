"""Health, readiness, metrics, and the files of the page."""

import re
import time

import httpx

from tests.support.client import search
from tests.support.paths import ROOT


def test_health_readiness_metrics_and_ids(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    ready = client.get("/readyz").json()
    parts = ("store", "embedder", "reranker", "late interaction", "quality")
    assert ready["checks"] == dict.fromkeys(parts, "ok")
    mine = client.get("/healthz", headers={"X-Request-Id": "order-66"})
    assert mine.headers["x-request-id"] == "order-66"
    search(client, text="frame", rerank="cross-encoder")
    wanted = (
        "quire_requests_total{",
        "quire_request_seconds_bucket{",
        "quire_stage_seconds_sum{",
        "quire_queue_depth{",
        "quire_batch_tokens_sum{",
        "quire_batch_padding_share{",
    )
    deadline = time.monotonic() + 90  # Ray gathers every few seconds
    while True:
        text = client.get("/metrics").text
        missing = [name for name in wanted if name not in text]
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert not missing


def test_the_page_and_its_parts_are_served(client: httpx.Client) -> None:
    page = client.get("/")
    assert (
        page.status_code == 200 and "script-src 'self'" in page.headers["content-security-policy"]
    )
    ui = ROOT / "serve" / "ui"
    for file in ui.rglob("*.*"):
        part = client.get(f"/ui/{file.relative_to(ui)}")
        assert part.status_code == 200 and part.headers["x-content-type-options"] == "nosniff"
    assert client.get("/ui/../router.py").status_code == 404
    docs = client.get("/docs").text
    assert "https://" not in docs  # it works offline
    for part in re.findall(r'(?:src|href)="(/[^"]+)"', docs):
        assert client.get(part).status_code == 200
