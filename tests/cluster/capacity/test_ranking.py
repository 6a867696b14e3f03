"""Which plan is the cheapest, the fastest or the nearest."""

from typing import Any

import pytest

from cluster.errors import InvalidInput
from jobs.capacity.plan import choose_plan
from tests.support.capacity import best, planned


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


def test_without_numbers_nothing_is_the_fastest_but_for_a_budget() -> None:
    with pytest.raises(InvalidInput, match="a --budget"):
        choose_plan(planned(pages=10_000), "fastest")
    assert len(best("fastest", pages=1_000_000, budget=50).gpus) == 1


def test_an_impossible_service_does_not_hide_the_ingest() -> None:
    outcome = planned(gpus="L4:1", pages=10_000, qps=50, p95="1s")
    plan = outcome.plans[0]
    assert plan.ingest and not plan.serving
    assert "no service of 50 queries a second" in plan.misses[0]
