"""The routes of a running service, asked by the clients that people use."""

import base64
import http.client
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import httpx
import numpy as np
import openai
import pymupdf
import pytest
from PIL import Image

from cluster.core import Query
from models.inputs import MultimodalInput
from models.options import EmbedderOptions, RerankerOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from models.qwen3_vl.reranker import Qwen3VLReranker
from models.retrieval.local import open_retriever
from models.retrieval.retriever import Retriever
from tests.support.serving import Server

TEXTS = ["cracked seat tube", "焙煎中に火が出たとき", "영수증 12,000원"]
DOCUMENTS = ["Replace the frame.", "A cracked seat tube cannot be repaired.", "焙煎機の手引き"]


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def embedder() -> Qwen3VLEmbedder:
    return Qwen3VLEmbedder(EmbedderOptions(precision="fp32"))


@pytest.fixture(scope="module")
def reranker() -> Qwen3VLReranker:
    return Qwen3VLReranker(RerankerOptions(precision="fp32"))


@pytest.fixture(scope="module")
def retriever(server: Server) -> Iterator[Retriever]:
    """The command line's way to the same index."""
    settings = server.settings.model_copy(update={"rerank": "cross-encoder"})
    with open_retriever(settings) as retriever:
        yield retriever


@pytest.fixture(scope="module")
def screenshot(client: httpx.Client) -> bytes:
    """Most of a page that is indexed, as PNG."""
    hit = search(client, text="cracked seat tube", top_k=1)["hits"][0]
    page = Image.open(io.BytesIO(client.get(hit["image_url"]).content))
    part = page.crop((0, 0, page.width, round(page.height * 0.8)))
    out = io.BytesIO()
    part.save(out, "PNG")
    return out.getvalue()


def search(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/search", json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def data_url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and type of an error, which has the one shape."""
    error = response.json()["error"]
    assert set(error) == {"type", "message", "param"}
    return response.status_code, error["type"]


# Embeddings


def test_openai_client(server: Server, embedder: Qwen3VLEmbedder) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    expected = embedder.embed([MultimodalInput(text=text) for text in TEXTS])
    for form in (openai.omit, "float"):  # the client's own default is base64
        found = client.embeddings.create(model="quire-tiny", input=TEXTS, encoding_format=form)
        vectors = np.array([item.embedding for item in found.data])
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert found.usage.prompt_tokens == found.usage.total_tokens > 3 * 10
    one = client.embeddings.create(model="quire-tiny", input=TEXTS[0], dimensions=64)
    short = expected[0][:64] / np.linalg.norm(expected[0][:64])
    np.testing.assert_allclose(one.data[0].embedding, short, atol=1e-5)
    assert [model.id for model in client.models.list()][:2] == ["quire-tiny", "quire-tiny-reranker"]
    with pytest.raises(openai.NotFoundError, match="not served"):
        client.embeddings.create(model="text-embedding-3-large", input="x")
    with pytest.raises(openai.BadRequestError, match="496 dimensions"):
        client.embeddings.create(model="quire-tiny", input="x", dimensions=3000)


def test_images_and_messages_are_embedded(
    client: httpx.Client, embedder: Qwen3VLEmbedder, screenshot: bytes
) -> None:
    url = data_url(screenshot)
    both = MultimodalInput(text="frame", images=(screenshot,))
    expected = embedder.embed([both, MultimodalInput(images=(screenshot,))])
    objects = [{"text": "frame", "image": url}, {"image": url.partition(",")[2]}]
    found = client.post("/v1/embeddings", json={"input": objects}).json()["data"]
    np.testing.assert_allclose([item["embedding"] for item in found], expected, atol=1e-5)
    messages = [
        {"role": "system", "content": "Find the page."},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "text", "text": "frame"},
            ],
        },
    ]
    found = client.post("/v1/embeddings", json={"messages": messages}).json()["data"]
    np.testing.assert_allclose(found[0]["embedding"], expected[0], atol=1e-3)


def test_cohere_client(
    server: Server,
    embedder: Qwen3VLEmbedder,
    reranker: Qwen3VLReranker,
    screenshot: bytes,
) -> None:
    client = cohere.ClientV2(api_key="none", base_url=server.url)
    expected = embedder.embed([MultimodalInput(text=text) for text in TEXTS])
    found = client.embed(
        model="quire-tiny",
        input_type="search_query",
        texts=TEXTS,
        embedding_types=["float", "int8", "ubinary"],
    ).embeddings
    assert found.float_ and found.int8 and found.ubinary
    np.testing.assert_allclose(found.float_, expected, atol=1e-5)
    np.testing.assert_array_equal(found.int8, np.rint(expected * 127))
    np.testing.assert_array_equal(found.ubinary, np.packbits(expected > 0, axis=1))
    seen = client.embed(
        model="quire-tiny",
        input_type="image",
        images=[data_url(screenshot)],
        embedding_types=["float"],
    ).embeddings.float_
    shot = embedder.embed([MultimodalInput(images=(screenshot,))])
    np.testing.assert_allclose(np.array(seen), shot, atol=1e-5)
    scores = reranker.score(
        MultimodalInput(text=TEXTS[0]), [MultimodalInput(text=text) for text in DOCUMENTS]
    )
    second = client.rerank(
        model="quire-tiny-reranker", query=TEXTS[0], documents=DOCUMENTS, top_n=2
    )
    assert [each.index for each in second.results] == list(np.argsort(-scores)[:2])
    first = cohere.Client(api_key="none", base_url=server.url).rerank(
        query=TEXTS[0], documents=DOCUMENTS, model="quire-tiny-reranker", return_documents=True
    )
    found_scores = {each.index: each.relevance_score for each in first.results}
    np.testing.assert_allclose([found_scores[i] for i in range(3)], scores, atol=1e-3)
    assert first.results[0].document and first.results[0].document.text == DOCUMENTS[1]


def test_rerank_of_images(
    client: httpx.Client, reranker: Qwen3VLReranker, screenshot: bytes
) -> None:
    url = data_url(screenshot)
    body = {"query": {"image": url}, "documents": [{"image": url, "text": "frame"}, "chair"]}
    response = client.post("/v1/rerank", json=body)
    assert response.status_code == 200, response.text
    found = response.json()
    expected = reranker.score(
        MultimodalInput(images=(screenshot,)),
        [MultimodalInput(text="frame", images=(screenshot,)), MultimodalInput(text="chair")],
    )
    scores = {each["index"]: each["relevance_score"] for each in found["results"]}
    np.testing.assert_allclose([scores[0], scores[1]], expected, atol=1e-3)
    assert found["usage"]["total_tokens"] > 200


# Search


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


def test_a_page_and_its_image(client: httpx.Client) -> None:
    hit = search(client, text="helmet test report", top_k=1)["hits"][0]
    page = client.get(f"/v1/pages/{hit['page_id']}", params={"q": "helmet"}).json()
    assert page["pages"] >= page["page"] and page["text"]
    start, end = page["matches"][0]
    assert page["text"][start:end].lower() == "helmet"
    other = client.get(f"/v1/pages/{page['next'] or page['previous']}").json()
    assert page["page_id"] in (other["next"], other["previous"])
    whole = client.get(hit["image_url"])
    small = client.get(hit["image_url"], params={"tenant": "", "width": 320})
    sizes = [Image.open(io.BytesIO(each.content)).size for each in (whole, small)]
    assert sizes[0] == (page["width_px"], page["height_px"]) and sizes[1][0] == 320
    known = {"If-None-Match": small.headers["etag"]}
    assert client.get(small.request.url, headers=known).status_code == 304
    missing = f"{'0' * 32}:1"
    for url in (f"/v1/pages/{missing}", f"/v1/pages/{missing}/image", f"{hit['image_url']}x"):
        assert problem(client.get(url))[0] == 404
    assert problem(client.get("/v1/pages/nonsense")) == (400, "invalid_input")


# Late interaction, evidence, quality


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


def test_evidence_by_every_method(client: httpx.Client) -> None:
    hit = search(client, text="cracked seat tube", top_k=1)["hits"][0]
    url = f"/v1/pages/{hit['page_id']}/evidence"
    for method, used in (
        ("auto", "words"),
        ("words", "words"),
        ("late-interaction", "late-interaction"),
        ("embedder", "embedder"),
    ):
        asked = {"q": "cracked seat tube", "method": method}
        found = client.get(url, params=asked).json()
        assert (found["method"], found["page_id"]) == (used, hit["page_id"])
        assert found["regions"]
        for region in found["regions"]:
            left, top, right, bottom = region["box"]
            assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
            assert 0 < region["score"] <= 1
        assert (found["heat"] is None) == (used == "words")
    strongest = client.get(url, params={"q": "cracked seat tube"}).json()["regions"][0]
    assert "seat tube" in strongest["text"].lower() and strongest["score"] == 1
    unsaid = client.get(url, params={"q": "qqzzyx"}).json()
    assert unsaid["method"] == "late-interaction"  # no word of it stands there
    png = client.get(url, params={"q": "seat", "format": "png", "width": 300})
    assert png.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(png.content)).size[0] == 300
    assert problem(client.get(url)) == (400, "invalid_input")
    assert problem(client.get(url, params={"q": "x", "method": "guess"}))[0] == 400
    assert problem(client.get(f"/v1/pages/{'0' * 32}:1/evidence", params={"q": "x"}))[0] == 404


def test_quality_of_pictures_and_of_pages(client: httpx.Client, screenshot: bytes) -> None:
    page = Image.open(io.BytesIO(screenshot)).convert("L")
    out = io.BytesIO()
    small = page.resize((page.width // 4, page.height // 4))
    small.resize(page.size).save(out, "PNG")
    images = [data_url(screenshot), data_url(out.getvalue())]
    answer = client.post("/v1/quality", json={"images": images}).json()
    assert answer["engine"].startswith("tesseract")
    clear, blurred = answer["predictions"]
    assert clear["cer"] < blurred["cer"]
    for each in (clear, blurred):
        assert 0 <= each["cer_low"] <= each["cer"] <= each["cer_high"] <= 1
        assert each["verdict"] in ("read", "rescan", "by hand")
    form = client.post("/v1/quality", files={"images": ("a.png", screenshot, "image/png")})
    assert form.json()["predictions"][0] == clear
    wrong: list[dict[str, Any]] = [
        {"images": []},
        {"images": ["http://h/a.png"]},
        {"images": 1},
        {},
    ]
    for body in wrong:
        assert problem(client.post("/v1/quality", json=body)) == (400, "invalid_input")
    assert problem(client.post("/v1/quality", content=b"x")) == (400, "invalid_input")

    hit = search(client, text="cracked seat tube", top_k=1)["hits"][0]
    assert 0 <= hit["expected_cer"] <= 1 and hit["verdict"]
    own = client.get(f"/v1/pages/{hit['page_id']}/quality").json()
    assert own["expected_cer"] == hit["expected_cer"] and own["heat"]
    png = client.get(f"/v1/pages/{hit['page_id']}/quality", params={"format": "png"})
    assert Image.open(io.BytesIO(png.content)).format == "PNG"


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


# Documents and jobs


def a_pdf(text: str) -> bytes:
    document = pymupdf.open()
    document.new_page().insert_text((72, 72), text)
    data: bytes = document.tobytes()
    return data


def finished(client: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    """Every event of a job, the last one included, as its stream has them."""
    events: list[dict[str, Any]] = []
    with client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=120) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        event = number = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("id: "):
                number = line[4:]
            elif line.startswith("data: "):
                events.append({"event": event, "id": int(number), **json.loads(line[6:])})
    return events


def test_upload_search_reindex_download_and_delete(
    server: Server,
    client: httpx.Client,
) -> None:
    pdf = a_pdf("The quagga was painted in 1793 by Marechal.")
    accepted = client.post(
        "/v1/documents",
        files=[("files", ("../../quagga.pdf", pdf)), ("files", ("broken.pdf", b"no PDF"))],
        data={"tags": "zoo, stripes", "metadata": '{"year": 1793}'},
    )
    assert accepted.status_code == 202, accepted.text
    events = finished(client, accepted.json()["job_id"])
    last = events[-1]
    assert last["event"] == last["status"] == "succeeded"
    assert [event["id"] for event in events] == sorted({event["id"] for event in events})
    assert last["progress"]["documents_done"] == 2 and last["progress"]["pages_done"] == 1
    states = {each["source"]: each for each in last["documents"]}
    assert states["quagga.pdf"]["state"] == "indexed" and states["broken.pdf"]["state"] == "failed"
    assert states["broken.pdf"]["message"]
    again = finished(client, accepted.json()["job_id"])  # whoever comes late sees the end
    assert [event["event"] for event in again] == ["succeeded"]

    hit = search(client, text="quagga painted", filters={"tags": ["stripes"]})["hits"][0]
    assert (hit["source"], hit["metadata"], hit["tags"]) == (
        "quagga.pdf",
        {"year": 1793},
        ["zoo", "stripes"],
    )
    document = f"/v1/documents/{hit['doc_id']}"
    listed = client.get("/v1/documents", params={"q": "QUAGGA", "tag": "zoo"}).json()
    assert listed["total"] == 1 and listed["documents"][0]["doc_id"] == hit["doc_id"]
    assert client.get(document).json()["status"] == "indexed"
    original = client.get(f"{document}/original")
    assert original.content == pdf
    assert 'attachment; filename="quagga.pdf"' in original.headers["content-disposition"]

    job = client.post(f"{document}/reindex").json()
    (end,) = finished(client, job["job_id"])[-1]["documents"]
    assert (end["state"], end["pages"]) == ("indexed", 1)

    uploads = Path(server.settings.uploads_url)
    assert [file for file in uploads.rglob("*") if file.name == "quagga.pdf"]
    gone = client.delete(document).json()
    assert gone["rows"] >= 2 and gone["images"] == 1
    assert not [file for file in uploads.rglob("*") if file.name == "quagga.pdf"]
    assert problem(client.get(document)) == (404, "not_found")
    assert problem(client.delete(document)) == (404, "not_found")
    assert problem(client.get(hit["image_url"])) == (404, "not_found")
    assert not search(client, text="quagga painted", filters={"tags": ["zoo"]})["hits"]


def test_an_original_that_changed_is_not_handed_out(
    server: Server,
    client: httpx.Client,
) -> None:
    hit = search(client, text="cracked seat tube", top_k=1)["hits"][0]
    file = server.library / hit["source"]
    url = f"/v1/documents/{hit['doc_id']}/original"
    data = file.read_bytes()
    assert client.get(url).content == data
    file.write_bytes(b"something secret")
    try:
        assert problem(client.get(url)) == (404, "not_found")
    finally:
        file.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "data", "fields"),
    [
        ("page.html", b"<p>", {}),
        ("empty.pdf", b"", {}),
        ("a.pdf", b"x", {"metadata": "[1]"}),
        ("a.pdf", b"x", {"metadata": "{"}),
        ("a.pdf", b"x", {"tags": "x" * 300}),
    ],
)
def test_uploads_that_cannot_be(
    client: httpx.Client, name: str, data: bytes, fields: dict[str, str]
) -> None:
    response = client.post("/v1/documents", files={"files": (name, data)}, data=fields)
    assert problem(response) == (400, "invalid_input")


# Limits, errors, the edge


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
        started = time.monotonic()
        assert problem(client.post(url, **body)) == (413, "too_large")
        assert time.monotonic() - started < 0.5


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
    connection = http.client.HTTPConnection("127.0.0.1", server.settings.port, timeout=10)
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
    deadline = time.monotonic() + 30  # Ray gathers every few seconds
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
    ui = Path(__file__).parents[2] / "serve" / "ui"
    for file in ui.rglob("*.*"):
        part = client.get(f"/ui/{file.relative_to(ui)}")
        assert part.status_code == 200 and part.headers["x-content-type-options"] == "nosniff"
    assert client.get("/ui/../router.py").status_code == 404
    docs = client.get("/docs").text
    assert "https://" not in docs  # it works offline
    for part in re.findall(r'(?:src|href)="(/[^"]+)"', docs):
        assert client.get(part).status_code == 200
