"""Embeddings, asked for by the clients that people use."""

import cohere
import httpx
import numpy as np
import openai
import pytest

from models.inputs import MultimodalInput
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from models.qwen3_vl.reranker import Qwen3VLReranker
from tests.support.client import data_url
from tests.support.serving import Server

TEXTS = ["cracked seat tube", "焙煎中に火が出たとき", "영수증 12,000원"]
DOCUMENTS = ["Replace the frame.", "A cracked seat tube cannot be repaired.", "焙煎機の手引き"]


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
