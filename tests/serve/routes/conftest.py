"""A client of the service, and the command line's own way to the same models and index."""

import io
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from models.options import EmbedderOptions, RerankerOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from models.qwen3_vl.reranker import Qwen3VLReranker
from models.retrieval.local import open_retriever
from models.retrieval.retriever import Retriever
from tests.support.client import search
from tests.support.serving import Server


@pytest.fixture(scope="package")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="package")
def embedder() -> Qwen3VLEmbedder:
    return Qwen3VLEmbedder(EmbedderOptions(precision="fp32"))


@pytest.fixture(scope="package")
def reranker() -> Qwen3VLReranker:
    return Qwen3VLReranker(RerankerOptions(precision="fp32"))


@pytest.fixture(scope="package")
def retriever(server: Server) -> Iterator[Retriever]:
    """The command line's way to the same index."""
    settings = server.settings.model_copy(update={"rerank": "cross-encoder"})
    with open_retriever(settings) as retriever:
        yield retriever


@pytest.fixture(scope="package")
def screenshot(client: httpx.Client) -> bytes:
    """Most of a page that is indexed, as PNG."""
    hit = search(client, text="cracked seat tube", top_k=1)["hits"][0]
    page = Image.open(io.BytesIO(client.get(hit["image_url"]).content))
    part = page.crop((0, 0, page.width, round(page.height * 0.8)))
    out = io.BytesIO()
    part.save(out, "PNG")
    return out.getvalue()
