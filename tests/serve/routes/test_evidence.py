"""A page, and the evidence on it."""

import io

import httpx
from PIL import Image

from tests.support.client import problem, search


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
