"""Reranking of images."""

import httpx
import numpy as np

from models.inputs import MultimodalInput
from models.qwen3_vl.reranker import Qwen3VLReranker
from tests.support.client import data_url


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
