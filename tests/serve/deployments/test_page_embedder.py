"""An ingest of a few pages asks the service's embedder, and gives way to searches."""

import asyncio
from typing import Any

import numpy as np
import pytest

import serve.deployments.page_embedder
from cluster.errors import InvalidInput, Overloaded
from models.inputs import MultimodalInput
from serve.deployments.embedder import Embedded
from serve.deployments.handles import EmbedderHandle
from serve.deployments.page_embedder import ServedPageEmbedder

VECTORS = np.eye(2, dtype=np.float32)
ITEMS = [MultimodalInput(text="a page"), MultimodalInput(text="its chunk")]


class Deployment:
    """Answers each call with the next of its answers."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.embed = self

    async def remote(self, items: list[MultimodalInput], *_: Any, **__: Any) -> Embedded:
        assert items == ITEMS
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Embedded(answer, (1, 1))


def embed(deployment: Deployment) -> np.ndarray:
    """Embed on a thread beside the event loop, as an ingest does."""

    async def run() -> np.ndarray:
        handle = EmbedderHandle("embedder", deployment)
        embedder = ServedPageEmbedder(handle, asyncio.get_running_loop())
        return await asyncio.to_thread(embedder.embed_encoded, [embedder.encode(i) for i in ITEMS])

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.deployments.page_embedder, "PAUSE_S", 0.01)


def test_it_waits_while_searches_have_the_embedder() -> None:
    busy = Overloaded("busy")
    assert np.array_equal(embed(Deployment(busy, busy, VECTORS)), VECTORS)


def test_it_waits_no_longer_than_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.deployments.page_embedder, "PATIENCE_S", 0.0)
    with pytest.raises(Overloaded):
        embed(Deployment(*[Overloaded("busy")] * 9))


def test_other_errors_are_the_ingests() -> None:
    with pytest.raises(InvalidInput, match="too long"):
        embed(Deployment(InvalidInput("too long"), VECTORS))
