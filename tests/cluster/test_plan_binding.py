"""A plan binds: ingest and serve take its settings, and memory that runs out loses no page."""

import asyncio
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from cluster.deployments import find_deployment
from cluster.errors import InvalidInput, OutOfMemory
from cluster.plan import Plan, Storage
from cluster.settings import load_settings
from jobs.ingest.report import IngestReport
from jobs.ingest.run import EMBED_PAGES
from jobs.ingest.summary import print_report
from models.engine.budget import TokenBudget
from models.engine.device import limit_gpu_memory
from models.inputs import MultimodalInput
from models.late_interaction.model import ColPaliModel
from models.options import EmbedderOptions, LateInteractionOptions, RerankerOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from models.qwen3_vl.packing import PackedBatch
from models.qwen3_vl.reranker import Qwen3VLReranker
from quire import app
from serve.deployments.embedder import EmbedderDeployment
from serve.deployments.models import ServedModels
from serve.web.errors import error_response
from tests.support.checkpoints import picture
from tests.support.documents import a_document, save

ROOT = Path(__file__).resolve().parents[2]
REFUSAL = "CUDA out of memory"


def write_plan(folder: Path, **settings: Any) -> str:
    """The name of a file in the working folder."""
    storage = Storage(1, 1, 1, 1, 1, 1)
    plan = Plan("quire-tiny", "fp32", None, None, storage, settings, expected_error=0.3)
    (folder / "plan.yaml").write_text(plan.to_yaml())
    return "plan.yaml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_plan_stands_between_the_environment_and_quire_yaml(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = write_plan(folder, batch_tokens=9000, gpu_memory_fraction=0.4, rerank_k=7, top_k=6)
    (folder / "quire.yaml").write_text("rerank_k: 3\ntop_k: 3\nshard_pages: 3\n")
    monkeypatch.setenv("QUIRE_TOP_K", "5")
    found = load_settings(plan=plan, batch_tokens=9001)
    assert (found.batch_tokens, found.top_k, found.rerank_k, found.shard_pages) == (9001, 5, 7, 3)
    assert found.gpu_memory_fraction == 0.4
    assert found.mode == "hybrid"


def test_a_plan_may_be_named_anywhere_and_a_flag_may_leave_it_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = write_plan(folder, top_k=6)
    (folder / "quire.yaml").write_text(f"plan: {plan}\ntop_k: 3\n")
    assert load_settings().top_k == 6
    assert load_settings(plan="").top_k == 3
    (folder / "quire.yaml").unlink()
    monkeypatch.setenv("QUIRE_PLAN", plan)
    assert load_settings().top_k == 6


def test_what_is_planned_of_a_deployment_leaves_the_rest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = {"gpus": 0.25, "memory_fraction": 0.2, "max_replicas": 2}
    plan = write_plan(folder, embedder_replicas=planned)
    monkeypatch.setenv("QUIRE_EMBEDDER_REPLICAS__MAX_REPLICAS", "4")
    (folder / "quire.yaml").write_text("embedder_replicas: {cpus: 3, gpus: 1}\n")
    found = load_settings(plan=plan, embedder_replicas={"min_replicas": 2}).embedder_replicas
    assert (found.gpus, found.memory_fraction) == (0.25, 0.2)
    assert (found.min_replicas, found.max_replicas, found.cpus) == (2, 4, 3)
    assert found.target_ongoing_requests == 8


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"batch_token": 1}, "batch_token"),
        ({"router": {"gpus": 1}}, "router.gpus"),
        ({"embedder_replicas": {"gpu": 1}}, "embedder_replicas.gpu"),
    ],
)
def test_an_unknown_setting_names_the_plan(
    folder: Path, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidInput, match=rf"plan\.yaml.* {named};"):
        load_settings(plan=write_plan(folder, **settings))


def test_a_plan_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.yaml"):
        load_settings(plan="nowhere.yaml")


def test_the_emitted_file_has_what_was_planned_and_not_where(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is the default of a field, but not of this deployment."""
    plan = write_plan(
        folder,
        batch_tokens=9000,
        embedder_replicas={"gpus": 0.25, "memory_fraction": 0.2},
        late_interaction_replicas={"min_replicas": 1},
    )
    settings = load_settings(plan=plan)
    done = CliRunner().invoke(app, ["serve", "--emit-config", "--plan", plan])
    assert done.exit_code == 0, done.output
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    args = yaml.safe_load(done.stdout)["applications"][0]["args"]
    assert "plan" not in args
    there = load_settings(**args)
    assert there.batch_tokens == 9000
    for name in ("embedder_replicas", "reranker_replicas", "late_interaction_replicas"):
        assert getattr(there, name) == getattr(settings, name), name
    assert there.late_interaction_replicas.min_replicas == 1


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


def test_people_read_it_in_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(IngestReport("quire", "", halved_batch_tokens={"quire-tiny": 4096}))
    assert "quire-tiny went on with batches of 4,096 tokens" in capsys.readouterr().out
    print_report(IngestReport("quire", ""))
    assert "out of memory" not in capsys.readouterr().out


INGEST = """
import json
import time
import torch
import jobs.ingest.run
from cluster.errors import OutOfMemory
from cluster.store.milvus import MilvusStore, open_store
from cluster.runtime import ray_session
from cluster.settings import load_settings
from jobs.ingest.embed import EmbedPages

class Tight(EmbedPages):
    "Its GPU refuses what is over half the budget."

    def __init__(self, job):
        super().__init__(job)
        self.most_tokens = job.settings.batch_tokens // 2
        forward = self._embedder.forward

        def limited(batch, rows=None):
            if sum(batch.lengths) > self.most_tokens:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(batch, rows)

        self._embedder.forward = limited

class Short(Tight):
    "Its GPU refuses everything once pages of the first batch are in the store."
    calls = 0

    def __call__(self, batch):
        self.calls += 1
        if self.calls > 1:
            while not MilvusStore(self.context.address).count_pages():
                time.sleep(0.1)
            self.most_tokens = 0
        return super().__call__(batch)

def ingest(kind):
    jobs.ingest.run.EmbedPages = kind
    try:
        request = jobs.ingest.run.IngestRequest(("report.pdf",))
        report = jobs.ingest.run.run_ingest(settings, request)
        said = json.loads(report.to_json())
    except OutOfMemory as error:
        said = {"error": str(error)}
    (held,) = store.documents()
    print(json.dumps(said | {"status": held.status, "held": sorted(store.pages_present(held))}))

jobs.ingest.run.WRITE_PAGES = 1
settings = load_settings(store="quire-data", ocr="off", batch_tokens=8192, render_workers=1)
with ray_session(settings), open_store(settings) as store:
    ingest(Short)
    ingest(Tight)
"""


def test_an_ingest_that_runs_out_of_memory_loses_no_page(tmp_path: Path) -> None:
    """Twice: it ends, and the next one does what is left. Once: it goes on, and reports that."""
    text = "\n".join(f"line {n} of the report on bridges" for n in range(60))
    pages = 28
    save(a_document(*[text] * pages), tmp_path / "report.pdf")
    done = subprocess.run(
        [sys.executable, "-c", INGEST],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=240,
    )
    twice, once = map(json.loads, done.stdout.splitlines())
    assert "quire-tiny ran out of memory" in twice["error"] and "batch_tokens" in twice["error"]
    assert "Traceback" not in twice["error"]
    assert twice["status"] == "indexing" and 0 < len(twice["held"]) < pages
    assert once["status"] == "indexed" and once["held"] == list(range(1, pages + 1))
    # What was embedded may still be on its way to the store when the first one ends.
    assert pages - EMBED_PAGES <= once["new_pages"] <= pages - len(twice["held"])
    assert once["failed_pages"] == 0
    assert once["halved_batch_tokens"] == {"quire-tiny": 4096}
