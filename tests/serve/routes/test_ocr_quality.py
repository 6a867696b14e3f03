"""Expected OCR quality of pictures and of pages."""

import io
from typing import Any

import httpx
from PIL import Image

from tests.support.client import data_url, problem, search


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
        assert each["verdict"] in ("ocr", "rescan", "manual")
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
