"""Documents and jobs: upload, reindex, download, delete."""

import json
from pathlib import Path

import httpx
import pytest

from tests.support.client import a_pdf, finished, problem, search
from tests.support.serving import Server


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
    for condition in ('{"year": {"lt": 1800}}', '{"any": [{"year": 1793.0}, {"tag": "no"}]}'):
        listed = client.get("/v1/documents", params={"filter": condition}).json()
        assert {each["source"] for each in listed["documents"]} == {"quagga.pdf", "broken.pdf"}
        body = {"text": "quagga painted", "filter": json.loads(condition)}
        assert {each["doc_id"] for each in search(client, **body)["hits"]} == {hit["doc_id"]}
    body = {"text": "quagga painted", "filter": {"not": {"tag": "zoo"}}}
    assert hit["doc_id"] not in {each["doc_id"] for each in search(client, **body)["hits"]}
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "filter: not JSON"),
        ('{"year": {"gte": NaN}}', "filter.year.gte: write a number"),
        ('{"year": {"over": 5}}', "filter.year.over: there is no such test"),
        ('{"expected_cer": {"lt": 0.5}}', "documents have none"),
    ],
)
def test_filters_that_say_what_is_wrong(client: httpx.Client, text: str, message: str) -> None:
    response = client.get("/v1/documents", params={"filter": text})
    assert problem(response) == (400, "invalid_input")
    assert message in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        ('{"year": {"gte": 1e400}}', "filter.year.gte: write a number"),
        ('{"not": null}', "filter.not: null is no object"),
        ("[1]", "filter: "),
        ('{"any": ' * 500 + "1" + "}" * 500, "filter"),
    ],
)
def test_searches_with_filters_that_cannot_be(
    client: httpx.Client, filter_: str, message: str
) -> None:
    body = f'{{"text": "plan", "filter": {filter_}}}'
    response = client.post("/v1/search", content=body, headers={"Content-Type": "application/json"})
    assert problem(response) == (400, "invalid_input")
    assert message in response.json()["error"]["message"]
