"""The host works while the device does: seen by events, with a forward that waits for them."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from models.inputs import EncodedInput, MultimodalInput
from models.options import EmbedderOptions, RerankerOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from models.qwen3_vl.packing import PackedBatch
from models.qwen3_vl.reranker import Qwen3VLReranker
from tests.support.checkpoints import picture

WAIT_S = 30
TEXTS = [MultimodalInput(text=f"invoice {number}") for number in range(6)]
PAGES = [MultimodalInput(images=(picture(number, 160, 160),)) for number in range(10)]


@pytest.fixture(scope="module")
def embedder() -> Qwen3VLEmbedder:
    return Qwen3VLEmbedder(EmbedderOptions(precision="fp32"))


@pytest.fixture(scope="module")
def reranker() -> Qwen3VLReranker:
    return Qwen3VLReranker(RerankerOptions(precision="fp32"))


class Forward:
    """A forward that notes what it computes, holds its first batch, and is never called twice."""

    def __init__(self, forward: Any) -> None:
        self.forward = forward
        self.batches: list[PackedBatch] = []
        self.began, self.may_end = threading.Event(), threading.Event()
        self.at_once = 0

    def __call__(self, batch: PackedBatch, rows: np.ndarray | None = None) -> torch.Tensor:
        self.at_once += 1
        assert self.at_once == 1
        self.batches.append(batch)
        self.began.set()
        assert self.may_end.wait(WAIT_S)
        states: torch.Tensor = self.forward(batch, rows)
        self.at_once -= 1
        return states


def test_inputs_are_encoded_while_others_are_computed(
    embedder: Qwen3VLEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = embedder.embed(TEXTS)
    forward = Forward(embedder.forward)
    monkeypatch.setattr(embedder, "forward", forward)
    monkeypatch.setattr(embedder, "_turn", threading.Lock())  # as on a GPU
    encoded = threading.Event()

    def embed(items: Sequence[MultimodalInput], done: threading.Event) -> np.ndarray:
        inputs = [embedder.encode(item) for item in items]
        done.set()
        return embedder.embed_encoded(inputs)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(embed, TEXTS[:3], threading.Event())
        assert forward.began.wait(WAIT_S)
        second = threads.submit(embed, TEXTS[3:], encoded)
        assert encoded.wait(WAIT_S) and not first.done()
        forward.may_end.set()
        vectors = np.concatenate([first.result(), second.result()])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert len(forward.batches) == 2


def test_a_cpu_computes_two_batches_side_by_side(
    embedder: Qwen3VLEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = embedder.embed(TEXTS)
    both, plain = threading.Barrier(2), embedder.forward

    def forward(batch: PackedBatch, rows: np.ndarray | None = None) -> torch.Tensor:
        both.wait(WAIT_S)  # raises where the other one does not come
        return plain(batch, rows)

    monkeypatch.setattr(embedder, "forward", forward)
    with ThreadPoolExecutor(2) as threads:
        vectors = np.concatenate(list(threads.map(embedder.embed, (TEXTS[:3], TEXTS[3:]))))
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_evidence_waits_for_its_turn(
    embedder: Qwen3VLEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = picture(1, 160, 160)
    expected = embedder.similarities(TEXTS[0], page)
    forward = Forward(embedder.forward)
    monkeypatch.setattr(embedder, "forward", forward)
    monkeypatch.setattr(embedder, "_turn", threading.Lock())  # as on a GPU
    with ThreadPoolExecutor(2) as threads:
        embedded = threads.submit(embedder.embed, TEXTS)
        assert forward.began.wait(WAIT_S)
        evidence = threads.submit(embedder.similarities, TEXTS[0], page)
        forward.may_end.set()
        np.testing.assert_allclose(evidence.result(), expected, atol=1e-5)
        embedded.result()


def test_the_first_candidates_are_scored_while_the_next_are_decoded(
    reranker: Qwen3VLReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = TEXTS[0]
    groups = reranker.encode(query, PAGES)
    expected = np.empty(len(PAGES), np.float32)
    for group, scores in zip(groups, reranker.score_encoded(groups), strict=True):
        expected[list(group.documents)] = scores
    forward = Forward(reranker.forward)
    monkeypatch.setattr(reranker, "forward", forward)
    pair = reranker.encoder._pair

    def late(asked: MultimodalInput, document: MultimodalInput, grids: Any) -> EncodedInput:
        if document is PAGES[-1]:
            assert forward.began.wait(WAIT_S)  # the last page, when the device has begun
            forward.may_end.set()
        return pair(asked, document, grids)

    monkeypatch.setattr(reranker.encoder, "_pair", late)
    np.testing.assert_allclose(reranker.score(query, PAGES), expected, atol=1e-3)
    assert len(forward.batches) == 3


def test_pages_are_decoded_side_by_side(
    reranker: Qwen3VLReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2, timeout=WAIT_S)  # broken where one comes after the other
    grid = reranker.encoder._budget.grid

    def waiting(image: Any, room: int) -> np.ndarray:
        together.wait()
        return grid(image, room)

    budget = type("Budget", (), {"grid": staticmethod(waiting), "room": lambda self, n: 10**6})
    monkeypatch.setattr(reranker.encoder, "_budget", budget())
    (group,) = reranker.encode(TEXTS[0], PAGES[:4])
    assert group.documents == (0, 1, 2, 3)


def test_parts_hold_every_document_once_and_texts_stay_together(reranker: Qwen3VLReranker) -> None:
    documents = [*PAGES[:5], *TEXTS, PAGES[5]]
    parts = list(reranker.encode_parts(TEXTS[0], documents))
    numbers = [number for part in parts for group in part for number in sorted(group.documents)]
    assert numbers == list(range(len(documents))) and len(parts) == 2
    assert len(list(reranker.encode_parts(TEXTS[0], TEXTS * 9))) == 1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_gpu_is_warmed_up_with_a_query_and_a_full_batch(
    embedder: Qwen3VLEmbedder,
    reranker: Qwen3VLReranker,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
) -> None:
    for model in (embedder, reranker):
        monkeypatch.setattr(model, "device", torch.device(device))
        tokens: list[int] = []

        def forward(
            batch: PackedBatch, rows: np.ndarray, seen: list[int] = tokens, model: Any = model
        ) -> torch.Tensor:
            seen.append(sum(batch.lengths))
            return torch.zeros(len(rows), model.spec.dimension)

        monkeypatch.setattr(model, "forward", forward)
        model.warm_up()
        short, *full = tokens
        assert short < 200
        budget = model.budget.tokens
        assert (not full) if device == "cpu" else (budget // 2 < full[0] <= budget)
