"""A plan binds: ingest and serve take its settings."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cluster.errors import InvalidInput
from cluster.plan import Plan, Storage
from cluster.settings import load_settings
from quire import app


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
