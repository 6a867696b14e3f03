"""PlannedModels to plan with, and short ways to plan."""

from typing import Any

from cluster.capacity.planner import Outcome, PlannedModels, Planner
from cluster.capacity.profile import Profile
from cluster.capacity.shapes import QWEN3_VL_2B, QWEN3_VL_8B
from cluster.capacity.workload import Candidate, load_workload
from cluster.plan import Plan
from jobs.capacity.plan import choose_plan

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


def planned(
    models: PlannedModels = MODELS, profile: Profile | None = None, **workload: Any
) -> Outcome:
    return Planner(load_workload(None, **workload), models, profile or Profile()).outcome()


def best(goal: str, **workload: Any) -> Plan:
    return choose_plan(planned(**workload), goal)
