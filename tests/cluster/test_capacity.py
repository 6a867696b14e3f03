"""Plans: what they promise holds, and what they refuse is said why."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cluster.capacity.fit import Rejection, fit
from cluster.capacity.formulas import PRECISIONS, kv_bytes
from cluster.capacity.planner import Outcome, PlannedModels, Planner
from cluster.capacity.profile import Measurement, Profile, load_profile
from cluster.capacity.shapes import QWEN3_VL_2B, QWEN3_VL_8B
from cluster.capacity.workload import Candidate, load_workload
from cluster.errors import InvalidInput
from cluster.hardware import CARDS, Accelerator, accelerators, kind_of
from cluster.plan import Plan, load_plan
from cluster.settings import GIB, Settings, load_settings
from jobs.capacity.plan import choose_plan, plan_capacity
from quire import app
from serve.deployments.indexer import beside_the_service

ROOT = Path(__file__).resolve().parents[2]
MIB_PIXELS = 1024 * 1024


def candidate(name: str, role: Any, shape: Any, longest: int) -> Candidate:
    return Candidate(name, role, shape, shape.text.width, MIB_PIXELS, longest)


EMBEDDERS = (
    candidate("qwen3-vl-embedding-2b", "embedder", QWEN3_VL_2B, 8192),
    candidate("qwen3-vl-embedding-8b", "embedder", QWEN3_VL_8B, 8192),
)
RERANKERS = (
    candidate("qwen3-vl-reranker-2b", "reranker", QWEN3_VL_2B, 10_240),
    candidate("qwen3-vl-reranker-8b", "reranker", QWEN3_VL_8B, 10_240),
)
MODELS = PlannedModels(EMBEDDERS, RERANKERS)
kinds = st.sampled_from([card.name for card in CARDS])
pools = st.dictionaries(kinds, st.integers(1, 16), min_size=1, max_size=3)
workloads = st.fixed_dictionaries(
    {
        "gpus": pools,
        "pages": st.integers(1, 10_000_000),
        "qps": st.sampled_from([0, 0.5, 3, 20]),
        "p95": st.sampled_from([0.3, 1.0, 5.0]),
        "rerank_k": st.sampled_from([0, 5, 20]),
        "rows_per_page": st.sampled_from([1.0, 3.5]),
        "screenshots": st.sampled_from([0.0, 0.03, 0.5]),
    }
)
EXAMPLES = settings(max_examples=60, deadline=None)


def planned(
    models: PlannedModels = MODELS, profile: Profile | None = None, **workload: Any
) -> Outcome:
    return Planner(load_workload(None, **workload), models, profile or Profile()).outcome()


def best(goal: str, **workload: Any) -> Plan:
    return choose_plan(planned(**workload), goal)


@given(
    st.sampled_from([*EMBEDDERS, *RERANKERS]),
    st.sampled_from(PRECISIONS),
    st.floats(4, 200),
    st.floats(0, 100),
    st.sampled_from([1, 2, 3, 4]),
)
@EXAMPLES
def test_more_memory_never_holds_fewer_replicas(
    model: Candidate, precision: str, gib: float, more: float, slots: int
) -> None:
    small, large = (_held(model, precision, size, slots) for size in (gib, gib + more))
    assert large >= small


def _held(model: Candidate, precision: str, gib: float, slots: int) -> int:
    card = Accelerator("card", int(gib * GIB), 100, 50, 1000, 1, "")
    found = fit(model, precision, card, Profile(), slots=slots)
    return 0 if isinstance(found, Rejection) else found.fits


@given(workloads, st.floats(0.5, 1000), st.floats(1, 10))
@EXAMPLES
def test_a_tighter_deadline_is_never_cheaper(
    workload: dict[str, Any], hours: float, factor: float
) -> None:
    tight = planned(**workload, deadline=f"{hours:.4f}h").plans
    loose = planned(**workload, deadline=f"{hours * factor:.4f}h").plans
    in_time = [plan.cost for plan in tight if not plan.misses]
    if in_time:
        assert min(in_time) >= min(plan.cost for plan in loose if not plan.misses) - 1e-9


@given(workloads)
@EXAMPLES
def test_nothing_planned_exceeds_a_card_or_the_pool(workload: dict[str, Any]) -> None:
    for plan in planned(**workload).plans:
        for part, used in ((plan.ingest, "workers"), (plan.serving, "replicas")):
            if part is None:
                continue
            for kind, count in part.gpus.items():
                assert count <= workload["gpus"][kind]
                each = [group for group in getattr(part, used) if group.gpu == kind]
                assert sum(group.count * group.gpu_share for group in each) <= count + 1e-9
                _check_card(kind, each)


def _check_card(kind: str, groups: list[Any]) -> None:
    """However Ray places replicas of equal shares, a card holds what lands on it."""
    card = accelerators()[kind]
    for group in groups:
        on_card = int(1 / group.gpu_share + 1e-3)
        held = group.memory_fraction * card.memory_bytes + group.memory.context
        assert on_card * held <= card.memory_bytes
        assert group.memory.allocated <= group.memory_fraction * card.memory_bytes * 1.001
        assert group.fits >= on_card
    assert len({group.gpu_share for group in groups}) == 1, "shares of one kind are equal"


def _service_share(settings: Settings) -> float:
    """GPUs that all replicas of a service would take, those of defaults included."""
    scalings = {
        "embedder": settings.embedder_replicas,
        "reranker": settings.reranker_replicas,
        "late": settings.late_interaction_replicas,
        "quality": settings.quality_replicas,
    }
    assert all(each.gpus is not None for each in scalings.values()), "by default a whole GPU"
    return sum(each.max_replicas * (each.gpus or 0) for each in scalings.values())


@given(workloads)
@EXAMPLES
def test_what_is_bound_has_room_on_the_planned_cards(workload: dict[str, Any]) -> None:
    for plan in planned(**workload).plans:
        found = load_settings(**plan.settings)
        if plan.serving:
            uploads = next(e for e in plan.serving.replicas if e.role == "indexer").gpu_share
            share = _service_share(found) + uploads
            assert share <= sum(plan.serving.gpus.values()) + 1e-9
            ours = beside_the_service(found)
            assert ours.gpus_per_worker == pytest.approx(uploads)
            assert ours.batch_tokens <= 8192
        if plan.ingest:
            kinds = set(plan.ingest.gpus)
            assert found.gpu_kind in {"", *kinds}
            if len(kinds) == 1 and len(workload["gpus"]) > 1:
                assert {found.gpu_kind} == kinds


@given(workloads)
@EXAMPLES
def test_what_is_served_is_served_in_time(workload: dict[str, Any]) -> None:
    for plan in planned(**workload).plans:
        if plan.serving:
            assert plan.serving.p95_s <= workload["p95"] + 1e-9
            assert plan.serving.qps == workload["qps"] < plan.serving.most_qps
            assert all(group.busy <= 0.8 + 1e-9 for group in plan.serving.replicas)


def test_more_queries_and_shorter_times_cost_more() -> None:
    costs = [best("cheapest", gpus="H100", qps=qps).cost for qps in (1, 4, 16, 64)]
    assert costs == sorted(costs) and costs[0] < costs[-1]
    costs = [best("cheapest", gpus="H100", qps=4, p95=p95).cost for p95 in ("5s", "1s", "600ms")]
    assert costs == sorted(costs)


def test_goals() -> None:
    limits: dict[str, Any] = {"gpus": "L4:8,H100:2", "pages": 500_000}
    outcome = planned(**limits, deadline="24h")
    plans = [choose_plan(outcome, goal) for goal in ("cheapest", "fastest", "smallest")]
    assert all(plan.ingest and not plan.misses for plan in plans)
    cheapest, fastest, smallest = (plan.ingest for plan in plans if plan.ingest)
    assert cheapest.cost == min(plan.cost for plan in outcome.plans)
    assert cheapest.hours <= 24
    assert fastest.pages_per_s == max(p.ingest.pages_per_s for p in outcome.plans if p.ingest)
    assert fastest.gpus == {"L4": 8, "H100": 2}  # every card of the pool at once
    assert set(smallest.gpus) == {"L4"}


def test_the_smallest_card_is_one_that_serves() -> None:
    outcome = planned(gpus="L4:8,H100:4", pages=176_443, deadline="24h", qps=5)
    smallest = choose_plan(outcome, "smallest")
    assert not smallest.misses and "H100" in smallest.gpus  # an L4 does not rerank in time
    assert set(best("smallest", gpus="L4:8,H100:4", pages=176_443).gpus) == {"L4"}


def test_the_fastest_stays_within_the_budget() -> None:
    plain = best("fastest", gpus="L4:64", pages=500_000)
    thrifty = best("fastest", gpus="L4:64", pages=500_000, budget=plain.cost * 0.97)
    assert thrifty.cost <= plain.cost * 0.97
    assert thrifty.ingest and plain.ingest
    assert 0 < thrifty.ingest.pages_per_s < plain.ingest.pages_per_s


def test_what_cannot_be_met_is_named() -> None:
    plan = planned(gpus="L4:1", pages=10_000_000, deadline="1h").plans[0]
    assert plan.misses and "h, not 1.0" in plan.misses[0]
    assert plan.goals == ("nearest",)
    outcome = planned(gpus="T4:1", qps=50, p95="50ms")
    assert not outcome.plans and outcome.rejected


def test_why_a_model_does_not_fit_and_what_would() -> None:
    sixteen = {"card": {"memory_gib": 15.6, "bf16_tflops": 100, "fp32_tflops": 20}}
    sixteen["card"]["bandwidth_gb_s"] = 300
    outcome = planned(gpus="card", pages=1000, cards=sixteen)
    reasons = {(each.model, each.precision): each.reason for each in outcome.rejected}
    why = reasons["qwen3-vl-embedding-8b", "bf16"]
    assert "needs 15.2 GiB of weights" in why and "the card has 15.6 GiB" in why
    assert "int8 fits: 8.7 GiB of weights" in why
    fitting = {(plan.model, plan.precision) for plan in outcome.plans}
    assert ("qwen3-vl-embedding-8b", "nf4") in fitting and (
        "qwen3-vl-embedding-2b",
        "bf16",
    ) in fitting


def test_small_print_of_a_pool() -> None:
    """What a page costs: its pixels, its text, its multi-vectors, its OCR."""
    cases: dict[str, dict[str, Any]] = {
        "plain": {},
        "small": {"max_pixels": MIB_PIXELS // 2},
        "no text": {"rows_per_page": 1},
        "few cores": {"cpus": 1, "scanned": 1.0},
    }
    rate = {}
    for name, more in cases.items():
        ingest = best("1", gpus="L4:1", pages=1000, **more).ingest
        assert ingest
        rate[name] = ingest.pages_per_s
    assert rate["small"] > rate["plain"] and rate["no text"] > rate["plain"]
    assert rate["few cores"] < 0.5
    scanned = best("1", gpus="L4:1", pages=1000, scanned=1.0)
    plain = best("1", gpus="L4:1", pages=1000)
    assert scanned.ingest and plain.ingest
    assert scanned.ingest.render_cpus > 10 * plain.ingest.render_cpus


def test_multi_vectors_take_memory_time_and_disk() -> None:
    late = registry_candidate("colpali-v1.3")
    plain = best("1", gpus="L4:1", pages=1000, precisions="bf16")
    outcome = planned(
        replace(MODELS, late=late),
        gpus="L4:4",
        pages=1000,
        multi_vectors="int8",
        precisions="bf16",
        qps=1,
        rerank_k=0,
    )
    plan = outcome.plans[0]
    assert plan.ingest and plain.ingest and plan.serving
    assert plan.ingest.workers[0].memory.weights > plain.ingest.workers[0].memory.weights + 5 * GIB
    assert plan.ingest.pages_per_s < plain.ingest.pages_per_s
    extra = plan.storage.page_files_bytes - plain.storage.page_files_bytes
    assert extra == 1000 * 1024 * 128
    assert {each.role for each in plan.serving.replicas} >= {"late-interaction", "embedder"}
    assert plan.settings["multi_vectors"] == "int8"


def registry_candidate(name: str) -> Candidate:
    from models.registry import registry

    spec = registry.specs[name]
    return Candidate(
        name, spec.kind, spec.shape, spec.dimension, spec.max_pixels, spec.max_tokens,
        precisions=("bf16",),
    )  # fmt: skip


def test_measurements_go_before_formulas(tmp_path: Path) -> None:
    size = QWEN3_VL_2B.size
    measured = Measurement("L4", size, "bf16", MIB_PIXELS, 8192, 9.0, 6 * GIB, 0.2, 1.25)
    Profile().with_new((measured,)).save(tmp_path / "profile.json")
    profile = load_profile(tmp_path / "profile.json")
    assert profile == Profile((measured,))
    newer = replace(measured, efficiency=0.3)
    assert profile.with_new((newer,)).measurements == (newer,)
    models = PlannedModels(EMBEDDERS[:1])
    computed = planned(models, gpus="L4:1", pages=1000, precisions="bf16").plans[0]
    plan = planned(models, profile, gpus="L4:1", pages=1000, precisions="bf16").plans[0]
    assert plan.ingest and computed.ingest
    assert plan.ingest.pages_per_s == pytest.approx(computed.ingest.pages_per_s / 2)
    worker, formula = plan.ingest.workers[0], computed.ingest.workers[0]
    assert worker.memory.vision == pytest.approx(1.25 * formula.memory.vision, rel=1e-6)
    assert worker.measured and not formula.measured
    assert plan.expected_error < computed.expected_error
    with pytest.raises(InvalidInput, match="calibrate"):
        (tmp_path / "profile.json").write_text("[{}]")
        load_profile(tmp_path / "profile.json")


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


def test_cards_by_the_drivers_names() -> None:
    assert kind_of("NVIDIA L4") == "L4"
    assert kind_of("NVIDIA L40S") == "L40S"
    assert kind_of("NVIDIA A100-SXM4-80GB") == "A100-80GB"
    assert kind_of("NVIDIA H100 80GB HBM3") == "H100"
    assert kind_of("NVIDIA GeForce RTX 4090") == "RTX4090"
    assert kind_of("Some Card") == "Some Card"


def test_models_of_the_registry_on_cards_and_on_cpus() -> None:
    asked = load_workload(None, gpus="L4:4", pages=10_000)
    names = {plan.model for plan in plan_capacity(load_settings(), asked).plans}
    assert names == {"qwen3-vl-embedding-2b", "qwen3-vl-embedding-8b"}
    outcome = plan_capacity(
        load_settings(), load_workload(None, gpus="CPU", pages=10_000, qps=0.01, p95=60)
    )
    assert {(plan.model, plan.precision) for plan in outcome.plans} == {("quire-tiny", "fp32")}
    assert outcome.plans[0].gpus == {} and "gpus_per_worker" not in outcome.plans[0].settings


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"gpus": "L5:2", "pages": 1}, "no GPU is called 'L5'"),
        ({"gpus": "L4:0", "pages": 1}, "gpus"),
        ({"pages": 1, "deadline": "soon"}, "'soon' is no time"),
        ({"pages": 1, "models": "qwen9"}, "no embedder is called 'qwen9'"),
        ({"pages": 1, "precisions": "int3"}, "int3"),
        ({"pages": 1, "prices": "H1000=2"}, "no GPU is called 'H1000'"),
        ({"pages": 1, "gpus": "CPU:2"}, "alone"),
        ({"pages": 1, "gpus": "CPU,L4"}, "alone"),
        ({"pages": 1, "dimensions": 100_000}, "cannot give 100000"),
        ({"pages": 1, "max_pixels": 10}, "max_pixels must be at least"),
        ({"qps": 1, "p95": "30ms"}, "p95 must be above"),
        ({"qps": 1, "answers": 0}, "answers"),
        ({}, "say what to plan"),
    ],
)
def test_bad_workloads_are_refused_in_one_line(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words) as refused:
        plan_capacity(load_settings(), load_workload(None, **flags))
    assert type(refused.value).__module__ == "cluster.errors"
    assert "\n" not in str(refused.value)


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


def test_calibrated_here_and_planned_with(tmp_path: Path) -> None:
    kept = ("--store", str(tmp_path / "data"))
    done = CliRunner().invoke(app, ["calibrate", *kept, "--pixels", "65536"])
    assert done.exit_code == 0 and "pages/s" in done.output
    (found,) = load_profile(tmp_path / "data" / "calibration.json").measurements
    assert (found.gpu, found.precision, found.pixels) == ("CPU", "fp32", 65536)
    assert found.pages_per_s > 0 and found.efficiency > 0
    done = CliRunner().invoke(app, ["plan", "--gpus", "CPU", "--pages", "1000", *kept])
    assert "measured by `quire calibrate`" in done.output
    done = CliRunner().invoke(app, ["calibrate", "--precisions", "int3", *kept])
    assert done.exit_code == 2


def test_room_for_a_generator_and_cores_for_quality() -> None:
    limits: dict[str, Any] = {"gpus": "H100:4,L4:4", "qps": 1, "rerank_k": 0, "pages": 10_000}
    asked = load_workload(None, **limits, generator="8b", answers=0.5, quality="on")
    plan = choose_plan(plan_capacity(load_settings(), asked), "1")
    plain = choose_plan(plan_capacity(load_settings(), load_workload(None, **limits)), "1")
    assert plan.serving and plain.serving and plan.ingest and plain.ingest
    (room,) = (each for each in plan.serving.replicas if each.role == "generator")
    assert room.memory.weights > 7e9 and room.memory.cache > 0
    assert plan.serving.cost_per_hour > plain.serving.cost_per_hour
    assert plan.serving.p95_s == plain.serving.p95_s  # of the search
    assert plan.ingest.render_cpus > 5 * plain.ingest.render_cpus
    assert plan.settings["quality"] == "on"
    load_settings(**plan.settings)


def test_a_generators_cache_is_what_is_known() -> None:
    assert [kv_bytes(shape) for shape in (QWEN3_VL_2B, QWEN3_VL_8B)] == [112 * 1024, 144 * 1024]


def test_prices_and_own_cards_without_a_pool() -> None:
    plan = best("cheapest", pages=10_000, prices="H100=0.01")
    assert plan.gpus == {"H100": 1} and plan.cost < 0.02
    own: dict[str, Any] = {"MyCard": {"memory_gib": 47, "bf16_tflops": 900, "fp32_tflops": 60}}
    own["MyCard"] |= {"bandwidth_gb_s": 900, "price_per_hour": 0.01}
    assert best("cheapest", pages=10_000, cards=own).gpus == {"MyCard": 1}
    assert best("cheapest", pages=10_000, cards=own, gpus="mycard:2").gpus == {"MyCard": 1}
    with pytest.raises(InvalidInput, match="cards"):
        load_workload(None, pages=1, cards={"My Card (48GB)": own["MyCard"]})


def test_without_numbers_nothing_is_the_fastest_but_for_a_budget() -> None:
    with pytest.raises(InvalidInput, match="a --budget"):
        choose_plan(planned(pages=10_000), "fastest")
    assert len(best("fastest", pages=1_000_000, budget=50).gpus) == 1


def test_an_impossible_service_does_not_hide_the_ingest() -> None:
    outcome = planned(gpus="L4:1", pages=10_000, qps=50, p95="1s")
    plan = outcome.plans[0]
    assert plan.ingest and not plan.serving
    assert "no service of 50 queries a second" in plan.misses[0]


def test_what_fits_apart_but_not_together_is_said() -> None:
    reasons = [each.reason for each in planned(gpus="H100:3", qps=5, p95="2s").rejected]
    assert any("all models of the service together need" in reason for reason in reasons)


def test_many_cards_are_planned_at_once() -> None:
    plan = best("cheapest", gpus="L4:10000", pages=10_000_000_000, deadline="30d")
    assert plan.ingest and plan.ingest.gpus["L4"] > 500 and not plan.misses


def test_pages_as_large_as_the_longest_input() -> None:
    huge, whole = (
        best("1", gpus="H100:1", pages=1000, max_pixels=pixels)
        for pixels in (100_000_000, 8192 * 1024)
    )
    assert huge.ingest and whole.ingest
    assert huge.ingest.pages_per_s == pytest.approx(whole.ingest.pages_per_s, rel=0.01)
    plain = best("1", gpus="H100:4", qps=1, p95="2s")
    small = best("1", gpus="H100:4", qps=1, p95="2s", max_pixels=65_536)
    by_role = [
        {e.role: e for e in plan.serving.replicas} for plan in (plain, small) if plan.serving
    ]
    assert by_role[0]["reranker"].per_s == pytest.approx(by_role[1]["reranker"].per_s)


def test_multi_vectors_on_gpus_are_of_a_model_for_gpus() -> None:
    asked = load_workload(None, gpus="L4:1", pages=1000, multi_vectors="int8")
    assert (
        plan_capacity(load_settings(), asked).plans[0].settings["late_interaction"]
        == "colpali-v1.3"
    )
