"""Memory of a GPU that runs out: smaller batches, once, and no input lost."""

import asyncio
import json
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cluster.deployments import find_deployment
from cluster.errors import OutOfMemory
from cluster.settings import load_settings
from models.engine.budget import TokenBudget
from models.engine.device import limit_gpu_memory
from models.inputs import MultimodalInput
from models.late_interaction.model import ColPaliModel
from models.options import EmbedderOptions, LateInteractionOptions, RerankerOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from models.qwen3_vl.packing import PackedBatch
from models.qwen3_vl.reranker import Qwen3VLReranker
from serve.deployments.embedder import EmbedderDeployment
from serve.deployments.models import ServedModels
from serve.web.errors import error_response
from tests.support.checkpoints import picture

REFUSAL = "CUDA out of memory"


def test_a_share_of_memory_is_asked_of_the_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", asked.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    limit_gpu_memory(0.4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    limit_gpu_memory(None)
    assert asked == []
    limit_gpu_memory(0.4)
    assert asked == [0.4]


def test_it_is_no_part_of_the_fingerprint() -> None:
    whole, part = (
        EmbedderOptions.from_settings(load_settings(gpu_memory_fraction=share), has_gpu=True)
        for share in (None, 0.3)
    )
    assert whole.fingerprint("bf16") == part.fingerprint("bf16")


class Gpu:
    """Stands before a model's forward and refuses what is over its memory, or all of it."""

    def __init__(self, forward: Callable[..., torch.Tensor], most_tokens: int) -> None:
        self.forward = forward
        self.most_tokens = most_tokens
        self.computed: list[int] = []

    def __call__(self, batch: PackedBatch, rows: np.ndarray | None = None) -> torch.Tensor:
        tokens = sum(batch.lengths)
        if tokens > self.most_tokens:
            raise torch.OutOfMemoryError(REFUSAL)
        self.computed.append(tokens)
        return self.forward(batch, rows)


ITEMS = [
    *(MultimodalInput(text=f"invoice {n} " * (4 * n + 1)) for n in range(10)),
    MultimodalInput(text="a page", images=(picture(1, 320, 320),)),
]


@pytest.fixture(scope="module")
def loaded() -> Qwen3VLEmbedder:
    return Qwen3VLEmbedder(EmbedderOptions(precision="fp32"))


@pytest.fixture
def embedder(loaded: Qwen3VLEmbedder, monkeypatch: pytest.MonkeyPatch) -> Qwen3VLEmbedder:
    """One whose budget and forward may be set for a test."""
    monkeypatch.setattr(loaded, "budget", loaded.budget)
    monkeypatch.setattr(loaded, "forward", loaded.forward)
    return loaded


def test_an_embedder_halves_its_budget_once(
    embedder: Qwen3VLEmbedder, caplog: pytest.LogCaptureFixture
) -> None:
    expected = embedder.embed(ITEMS)
    tokens = [embedder.encode(item).tokens for item in ITEMS]
    total = sum(tokens)
    embedder.budget = TokenBudget("quire-tiny", total)
    refusals: list[str] = []
    embedder.budget.on_refusal = lambda: refusals.append("refused")
    gpu = embedder.forward = Gpu(embedder.forward, total // 2)

    np.testing.assert_allclose(embedder.embed(ITEMS), expected, atol=1e-5)
    assert embedder.budget.halved and embedder.budget.tokens == total // 2
    assert sum(gpu.computed) == total  # nothing twice
    (said,) = (record.getMessage() for record in caplog.records)
    assert all(word in said for word in ("quire-tiny", str(total), str(total // 2), REFUSAL))
    embedder.embed(ITEMS)
    assert refusals == ["refused"]  # the smaller budget stays

    gpu.most_tokens = max(tokens) - 1
    with pytest.raises(OutOfMemory, match="batch_tokens"):
        embedder.embed(ITEMS)
    gpu.most_tokens = total
    np.testing.assert_allclose(embedder.embed(ITEMS), expected, atol=1e-5)


def test_an_input_over_the_smaller_budget_is_computed_alone() -> None:
    budget = TokenBudget("a model", 10)
    batches: list[list[str]] = []

    def compute(items: list[str]) -> list[str]:
        batches.append(items)
        if len(batches) == 1:
            raise torch.OutOfMemoryError(REFUSAL)
        return [item.upper() for item in items]

    assert budget.map(compute, ["a", "b", "c", "d"], [2, 8, 3, 2]) == ["A", "B", "C", "D"]
    assert batches == [["b", "a"], ["b"], ["c", "a"], ["d"]]


def test_two_threads_that_run_out_at_once_halve_it_once() -> None:
    budget = TokenBudget("a model", 10)
    together = threading.Barrier(2, timeout=30)

    def compute(items: list[str]) -> list[str]:
        if len(items) > 1:
            together.wait()  # both have planned with what is too much
            raise torch.OutOfMemoryError(REFUSAL)
        return [item.upper() for item in items]

    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(budget.map, compute, ["a", "b"], [5, 5]) for _ in range(2)]
        assert [run.result() for run in runs] == [["A", "B"], ["A", "B"]]
    assert budget.tokens == 5


def test_evidence_of_an_embedder_says_what_it_lacks(embedder: Qwen3VLEmbedder) -> None:
    embedder.forward = Gpu(embedder.forward, 50)
    with pytest.raises(OutOfMemory, match="max_pixels"):
        embedder.similarities(MultimodalInput(text="seat"), picture(1, 320, 320))
    assert not embedder.budget.halved  # one page says nothing of batches


def test_a_reranker_cuts_the_groups_that_it_was_given() -> None:
    reranker = Qwen3VLReranker(RerankerOptions(precision="fp32"))
    query = MultimodalInput(text="where is invoice 4?")
    (group,) = reranker.encode(query, ITEMS)
    expected = reranker.score(query, ITEMS)
    reranker.budget = TokenBudget("quire-tiny-reranker", group.tokens)
    gpu = reranker.forward = Gpu(reranker.forward, group.tokens // 2)

    np.testing.assert_allclose(reranker.score(query, ITEMS), expected, atol=1e-5)
    assert reranker.budget.halved and len(gpu.computed) > 1
    gpu.most_tokens = 10
    with pytest.raises(OutOfMemory):
        reranker.score(query, ITEMS)


def test_late_interaction_takes_fewer_images(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ColPaliModel(LateInteractionOptions())
    pages = [Image.fromarray(picture(n, 160, 160)) for n in range(4)]
    expected = model.embed_images(pages)
    real, sizes = model._model.forward, []
    most = 3

    def forward(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError(REFUSAL)
        return real(**inputs)

    monkeypatch.setattr(model._model, "forward", forward)
    model.budget = TokenBudget("late", 4 * model.spec.max_tokens)
    for found, wanted in zip(model.embed_images(pages), expected, strict=True):
        np.testing.assert_allclose(found.vectors, wanted.vectors, atol=1e-5)
    assert sizes == [4, 2, 2]
    most = 0
    with pytest.raises(OutOfMemory):
        model.embed_query("seat tube")
    with pytest.raises(OutOfMemory):
        model.embed_images(pages)


def test_a_replica_goes_on_and_counts(
    embedder: Qwen3VLEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its budget is that of its batches; what is refused after all is a 503."""
    counted: list[str] = []
    shares: list[float | None] = []
    monkeypatch.setattr("serve.deployments.start.count_out_of_memory", counted.append)
    monkeypatch.setattr("serve.deployments.start.log_as_service", lambda: None)
    monkeypatch.setattr("models.engine.device.use_threads", lambda threads: None)
    monkeypatch.setattr("models.engine.device.limit_gpu_memory", shares.append)
    monkeypatch.setattr("models.qwen3_vl.embedder.Qwen3VLEmbedder", lambda options: embedder)
    monkeypatch.setattr("serve.web.errors.service", lambda: SimpleNamespace(keys=None))
    embedder.budget = TokenBudget("quire-tiny", 16_384)
    expected = embedder.embed(ITEMS)
    total = sum(embedder.encode(item).tokens for item in ITEMS)
    settings = load_settings(
        embedder_replicas={"batch_tokens": total, "memory_fraction": 0.3}, precision="fp32"
    )
    models = ServedModels.from_settings(settings, has_gpu=False)
    replica = EmbedderDeployment(find_deployment("embedder"), settings, models)
    assert shares == [0.3]

    async def ask() -> np.ndarray:
        return (await replica.embed(ITEMS, 30)).vectors

    gpu = embedder.forward = Gpu(embedder.forward, total // 2)
    np.testing.assert_allclose(asyncio.run(ask()), expected, atol=1e-5)
    assert embedder.budget.tokens == total // 2 and counted == ["embedder"]
    gpu.most_tokens = 0
    with pytest.raises(OutOfMemory) as refused:
        asyncio.run(ask())
    assert counted == ["embedder", "embedder"]
    answer = error_response(pickle.loads(pickle.dumps(refused.value)))
    assert answer.status_code == 503 and "Retry-After" in answer.headers
    assert json.loads(bytes(answer.body))["error"]["type"] == "unavailable"
