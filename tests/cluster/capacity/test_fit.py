"""What fits on which cards, and why the rest does not."""

from dataclasses import replace
from typing import Any

import pytest

from cluster.capacity.formulas import kv_bytes
from cluster.capacity.shapes import QWEN3_VL_2B, QWEN3_VL_8B
from cluster.capacity.workload import Candidate, load_workload
from cluster.settings import GIB, load_settings
from jobs.capacity.plan import choose_plan, plan_capacity
from tests.support.capacity import MODELS, best, planned


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


def test_models_of_the_registry_on_cards_and_on_cpus() -> None:
    asked = load_workload(None, gpus="L4:4", pages=10_000)
    names = {plan.model for plan in plan_capacity(load_settings(), asked).plans}
    assert names == {"qwen3-vl-embedding-2b", "qwen3-vl-embedding-8b"}
    outcome = plan_capacity(
        load_settings(), load_workload(None, gpus="CPU", pages=10_000, qps=0.01, p95=60)
    )
    assert {(plan.model, plan.precision) for plan in outcome.plans} == {("quire-tiny", "fp32")}
    assert outcome.plans[0].gpus == {} and "gpus_per_worker" not in outcome.plans[0].settings


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
