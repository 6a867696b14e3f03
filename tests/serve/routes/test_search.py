"""Search by text and screenshot, filters, snippets, late interaction."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.core import Query
from models.retrieval.retriever import Retriever
from tests.support.client import data_url, problem, search
from tests.support.serving import Server, quire

TEXTS = ["cracked seat tube", "焙煎中に火が出たとき", "영수증 12,000원"]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "text"])
@pytest.mark.parametrize("rerank", ["none", "cross-encoder"])
def test_search_is_what_the_command_line_finds(
    server: Server,
    client: httpx.Client,
    retriever: Retriever,
    mode: str,
    rerank: str,
) -> None:
    settings = server.settings.model_copy(update={"mode": mode, "rerank": rerank, "top_k": 5})
    for text in TEXTS:
        expected = retriever.hits(Query(text=text), settings)
        found = search(client, text=text, mode=mode, rerank=rerank, top_k=5)
        assert (found["mode"], found["rerank"]) == (mode, rerank)
        assert [hit["page_id"] for hit in found["hits"]] == [hit.page_id for hit in expected]
        for hit, want in zip(found["hits"], expected, strict=True):
            scores = (want.dense, want.text_score, want.fused, want.rerank, want.maxsim)
            assert list(hit["scores"].values()) == pytest.approx(scores, abs=1e-3)
            assert (hit["scores"]["rerank"] is None) == (rerank == "none")


def test_search_by_screenshot_in_every_way_to_send_one(
    client: httpx.Client, screenshot: bytes
) -> None:
    wanted = search(client, text="cracked seat tube", top_k=1)["hits"][0]["page_id"]
    bare = base64.b64encode(screenshot).decode()
    for body in ({"image": data_url(screenshot)}, {"image": bare}):
        assert search(client, top_k=1, **body)["hits"][0]["page_id"] == wanted
    form = client.post(
        "/v1/search",
        files={"image": ("shot.png", screenshot)},
        data={"request": json.dumps({"text": "seat tube", "rerank": "cross-encoder"})},
    )
    hit = form.json()["hits"][0]
    assert hit["page_id"] == wanted and hit["scores"]["dense"]
    assert hit["scores"]["rerank"] is not None


def test_snippets_mark_what_matched(client: httpx.Client) -> None:
    for text, word in (("cracked seat tube", "seat"), ("焙煎中に火が出たとき", "焙煎")):
        hit = search(client, text=text, top_k=1)["hits"][0]
        marked = [hit["snippet"][start:end].lower() for start, end in hit["matches"]]
        assert any(word in mark for mark in marked), (hit["snippet"], marked)


def test_filters(client: httpx.Client) -> None:
    hits = search(client, text="frame", top_k=20)["hits"]
    document = hits[0]["doc_id"]
    only = search(client, text="frame", filters={"doc_ids": [document]})["hits"]
    assert only and {hit["doc_id"] for hit in only} == {document}
    assert search(client, text="frame", filters={"tags": ["demo"]})["hits"]
    assert not search(client, text="frame", filters={"tags": ["other"]})["hits"]
    assert not search(client, text="frame", filters={"tenant": "other"})["hits"]
    assert not search(client, text="frame", filters={"before": "2020-01-01T00:00:00Z"})["hits"]
    evil = 'x" or tenant != "'
    assert not search(client, text="frame", filters={"tenant": evil, "tags": [evil]})["hits"]


def test_late_interaction_orders_by_maxsim_and_keeps_every_score(client: httpx.Client) -> None:
    found = search(client, text="cracked seat tube", rerank="late-interaction", rerank_k=15)
    assert found["rerank"] == "late-interaction"
    scores = [hit["scores"] for hit in found["hits"]]
    ranked = [each["maxsim"] for each in scores]
    assert None not in ranked and ranked == sorted(ranked, reverse=True)
    assert all(each["fused"] is not None and each["rerank"] is None for each in scores)
    plain = search(client, text="cracked seat tube", rerank="none", top_k=15)["hits"]
    assert {hit["page_id"] for hit in found["hits"]} <= {hit["page_id"] for hit in plain}
    assert all(hit["scores"]["maxsim"] is None for hit in plain)


def test_late_interaction_by_screenshot(client: httpx.Client, screenshot: bytes) -> None:
    hits = search(client, image=data_url(screenshot), rerank="late-interaction")["hits"]
    wanted = search(client, text="cracked seat tube", top_k=1)["hits"][0]["page_id"]
    assert hits[0]["page_id"] == wanted


def test_quality_filters_and_orders(client: httpx.Client) -> None:
    def cers(**body: Any) -> list[float]:
        hits = search(client, text="frame", top_k=50, rerank="none", **body)["hits"]
        return [hit["expected_cer"] for hit in hits]

    everything = cers()
    middle = sorted(everything)[len(everything) // 2]
    at_most = cers(filters={"max_cer": middle})
    assert at_most and max(at_most) <= middle + 1e-6 and len(at_most) < len(everything)
    assert min(cers(filters={"min_cer": middle})) >= middle - 1e-6
    assert cers(sort="easy-first") == sorted(everything)
    assert cers(sort="hard-first") == sorted(everything, reverse=True)
    assert problem(client.post("/v1/search", json={"text": "x", "filters": {"max_cer": 2}})) == (
        400,
        "invalid_input",
    )


@pytest.mark.parametrize(
    "words", [["--mode", "text", "--rerank", "none"], ["--rerank", "cross-encoder"]]
)
def test_the_command_line_asks_the_service_and_prints_the_same(
    server: Server, words: list[str]
) -> None:
    flags = ["search", "cracked seat tube", "--top-k", "3", "--tag", "demo", "--json", *words]
    here = json.loads(quire(*flags, "--store", str(server.settings.store)))
    there = json.loads(quire(*flags, "--url", server.url))
    assert len(here) == len(there) > 0
    for local, remote in zip(here, there, strict=True):
        assert list(local) == list(remote)
        local["source"] = Path(local["source"]).name
        for shown in (local, remote):
            del shown["text"]  # the service has a snippet of it
        for name, value in local.items():
            expected = pytest.approx(value, abs=1e-3) if isinstance(value, float) else value
            assert remote[name] == expected, name


def test_asking_a_service_loads_nothing(server: Server) -> None:
    words = ["search", "seat tube", "--url", server.url, "--json"]
    code = (
        "import sys, quire\n"
        f"quire.app({words!r}, standalone_mode=False)\n"
        "heavy = ('torch', 'ray', 'pymilvus', 'numpy', 'PIL', 'fsspec')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)
    assert done.stderr.strip() == "[]"
