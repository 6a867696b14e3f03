"""The plan on the command line, and as a file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import InvalidInput
from cluster.plan import load_plan
from cluster.settings import load_settings
from tests.support.capacity import best
from tests.support.paths import ROOT


def test_a_plan_sets_what_it_plans(tmp_path: Path) -> None:
    plan = best("cheapest", gpus="L4:2,H100:4", pages=100_000, qps=2)
    file = tmp_path / "plan.yaml"
    file.write_text(plan.to_yaml())
    assert load_plan(file) == plan
    found = load_settings(**plan.settings)
    assert plan.ingest and plan.serving
    worker = plan.ingest.workers[0]
    assert found.batch_tokens == worker.batch_tokens
    assert found.gpu_memory_fraction == worker.memory_fraction
    assert found.workers == worker.count
    by_role = {each.role: each for each in plan.serving.replicas}
    assert found.reranker_replicas.gpus == by_role["reranker"].gpu_share
    assert found.reranker_replicas.max_replicas == by_role["reranker"].count
    assert found.embedder_replicas.memory_fraction == by_role["embedder"].memory_fraction


@pytest.mark.parametrize(
    ("content", "words"),
    [("[", "cannot be read"), ("a: 1", "no plan"), ("version: 1", "broken")],
)
def test_plans_that_are_none(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "plan.yaml").write_text(content)
    with pytest.raises(InvalidInput, match=words):
        load_plan(tmp_path / "plan.yaml")


def quire(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "quire.py"), *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "work.yaml").write_text("pages: 176443\ndeadline: 24h\ngpus: {L4: 8, H100: 2}\n")
    files = ("--out", "plan.yaml", "--chart", "plan.png", "--choose", "fastest")
    done = quire("plan", "--workload", "work.yaml", "--qps", "1", *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("cheapest", "weights, GiB", "Milvus", "computed, not measured"):
        assert words in done.stdout
    assert "fastest" in load_plan(tmp_path / "plan.yaml").goals
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert len(max(done.stdout.splitlines(), key=len)) <= 160
    done = quire("plan", "--workload", "work.yaml", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["plans"][0]["ingest"]["pages"] == 176443
    done = quire("plan", "--workload", "work.yaml", "--markdown", cwd=tmp_path)
    assert "| --- |" in done.stdout and "### Plan 1" in done.stdout
    done = quire("plan", "--gpus", "T4:1", "--qps", "9", "--p95", "100ms", cwd=tmp_path)
    assert done.returncode == 1 and "No plan" in done.stdout
    done = quire("plan", "--pages", "10", "--deadline", "soon", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
