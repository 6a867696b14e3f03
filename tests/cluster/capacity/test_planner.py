"""What any plan promises holds: memory, deadlines, latency."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.capacity.fit import Rejection, fit
from cluster.capacity.formulas import PRECISIONS
from cluster.capacity.profile import Profile
from cluster.capacity.workload import Candidate
from cluster.hardware import CARDS, Accelerator, accelerators
from cluster.settings import GIB, Settings, load_settings
from serve.deployments.indexer import beside_the_service
from tests.support.capacity import EMBEDDERS, RERANKERS, planned

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
