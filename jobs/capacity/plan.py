"""Plan: models by name, cards, measurements → the planner's outcome."""

from dataclasses import replace
from pathlib import Path

from cluster.capacity.formulas import ANSWER_PAGES, ANSWER_TOKENS
from cluster.capacity.planner import Outcome, PlannedModels, Planner
from cluster.capacity.profile import PROFILE_FILE, load_profile
from cluster.capacity.workload import Candidate, Workload
from cluster.errors import InvalidInput
from cluster.hardware import CPU, detect_gpus
from cluster.plan import Plan
from cluster.settings import Settings
from models.options import check_page_input
from models.registry import ModelSpec, registry

# Quire loads late interaction unquantised.
LATE_PRECISIONS = ("bf16", "fp32")


def plan_capacity(settings: Settings, workload: Workload, profile: Path | None = None) -> Outcome:
    """Plans for a workload; on the GPUs of this machine, or on all that could be rented.

    Raises InvalidInput or ModelUnavailable.
    """
    workload = _with_cards(workload)
    measured = load_profile(profile or settings.data_dir / PROFILE_FILE)
    return Planner(workload, models_for(settings, workload), measured).outcome()


def choose_plan(outcome: Outcome, goal: str) -> Plan:
    """Return the plan of a goal (cheapest, fastest, smallest) or of a number in the table.

    Raises InvalidInput.
    """
    if goal.isdigit() and 1 <= int(goal) <= len(outcome.plans):
        return outcome.plans[int(goal) - 1]
    for plan in outcome.plans:
        if goal and any(each.startswith(goal) for each in plan.goals):
            return plan
    known = ", ".join(dict.fromkeys(each for plan in outcome.plans for each in plan.goals))
    hint = "" if "fastest" in known else "; fastest is known with numbers in --gpus, or a --budget"
    raise InvalidInput(
        f"there is no plan {goal!r}: choose {known}, or a number up to {len(outcome.plans)}{hint}"
    )


def _with_cards(workload: Workload) -> Workload:
    if workload.gpus:
        return workload
    return workload.model_copy(update={"gpus": detect_gpus()})


def models_for(settings: Settings, workload: Workload) -> PlannedModels:
    """The named models, or those that suit the cards. Raises ModelUnavailable or InvalidInput."""
    on_cpu = set(map(str.upper, workload.gpus)) == {CPU}
    embedders = workload.models or _usual("embedder", settings.model, on_cpu)
    rerankers = workload.rerankers or _usual("reranker", settings.reranker, on_cpu)
    late = None
    if workload.multi_vectors != "off":
        usual = _usual("late-interaction", settings.late_interaction, on_cpu)
        spec = registry.find_spec(workload.late_interaction or usual[0], "late-interaction")
        late = replace(_candidate(spec), precisions=LATE_PRECISIONS)
    specs = [registry.find_spec(name) for name in embedders]
    if not workload.models:  # of the usual ones those that give so many dimensions
        specs = [each for each in specs if each.dimension >= workload.dimensions] or specs
    for spec in specs:
        check_page_input(spec, workload.max_pixels, workload.dimensions)
    specs += [registry.find_spec(name, "reranker") for name in rerankers]
    candidates = [_candidate(spec) for spec in specs]
    if on_cpu:
        candidates = [replace(each, precisions=("fp32",)) for each in candidates]
    return PlannedModels(
        tuple(each for each in candidates if each.role == "embedder"),
        tuple(each for each in candidates if each.role == "reranker"),
        late,
        _generator(workload.generator) if workload.generator else None,
    )


def _generator(size: str) -> Candidate:
    """An instruct model of the embedders' architecture; Quire runs none, it keeps room for one."""
    spec = registry.specs[f"qwen3-vl-embedding-{size}"]
    longest = ANSWER_PAGES * spec.max_pixels // spec.shape.vision.token_px**2 + ANSWER_TOKENS
    name = f"generator-{size}"
    return replace(_candidate(spec), name=name, role="generator", max_tokens=longest)


def _usual(kind: str, own: str, on_cpu: bool) -> tuple[str, ...]:
    """On CPUs what the settings say; on GPUs those that are too large to ship with Quire."""
    if on_cpu:
        return (own,)
    known = registry.specs.values()
    return tuple(spec.name for spec in known if spec.kind == kind and not spec.is_local)


def _candidate(spec: ModelSpec) -> Candidate:
    return Candidate(
        name=spec.name,
        role=spec.kind,
        shape=spec.shape,
        dimension=spec.dimension,
        max_pixels=spec.max_pixels,
        max_tokens=spec.max_tokens,
        page_chars=spec.page_chars,
        always_sees=spec.page_images == "always",
    )
