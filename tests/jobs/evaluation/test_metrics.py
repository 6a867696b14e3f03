"""Metrics against values worked out by hand, and against their definitions."""

import math

import pytest

from cluster.errors import InvalidInput
from jobs.evaluation.metrics import METRICS, find_metric, measure_rankings

GRADES = {"q": {"a": 3, "b": 1, "c": 0, "z": 2}}
RANKING = {"q": ["x", "b", "c", "a", "y"]}  # relevant at ranks 2 and 4; z is not found


def test_values_worked_out_by_hand() -> None:
    values = measure_rankings(GRADES, RANKING)["q"]
    best = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    found = 1 / math.log2(3) + 3 / math.log2(5)
    expected = {
        "hit@1": 0,
        "hit@3": 1,
        "hit@5": 1,
        "hit@10": 1,
        "recall@1": 0,
        "recall@3": 1 / 3,
        "recall@5": 2 / 3,
        "recall@10": 2 / 3,
        "precision@1": 0,
        "precision@5": 2 / 5,
        "precision@10": 2 / 10,
        "mrr": 1 / 2,
        "map": (1 / 2 + 2 / 4 + 0) / 3,
        "ndcg@5": found / best,
        "ndcg@10": found / best,
    }
    assert values == pytest.approx(expected)
    assert list(values) == list(METRICS)


def test_ndcg_at_5_sees_five() -> None:
    ranking = {"q": ["1", "2", "3", "4", "5", "a"]}
    values = measure_rankings({"q": {"a": 1}}, ranking)["q"]
    assert values["ndcg@5"] == 0
    assert values["ndcg@10"] == pytest.approx(1 / math.log2(7))


def test_the_order_counts_and_not_the_names() -> None:
    for ranking in (["a", "b"], ["b", "a"]):
        values = measure_rankings({"q": {ranking[1]: 1}}, {"q": ranking})
        assert values["q"]["mrr"] == 0.5


def test_nothing_found_is_zero_and_nothing_relevant_is_left_out() -> None:
    grades = {"none found": {"a": 1}, "none relevant": {"a": 0}, "empty": {"a": 1}}
    values = measure_rankings(
        grades, {"none found": ["b"], "none relevant": ["a"], "empty": [], "unjudged": ["a"]}
    )
    assert set(values) == {"none found", "empty"}
    assert all(not any(metrics.values()) for metrics in values.values())


def test_mrr_cannot_leave_the_bounds_that_its_definition_names() -> None:
    grades = {str(number): {"a": 1} for number in range(4)}
    rankings = {str(number): ["a", "b"] if number < 1 else ["b", "a"] for number in range(4)}
    values = measure_rankings(grades, rankings).values()
    hit = sum(each["hit@1"] for each in values) / 4
    mrr = sum(each["mrr"] for each in values) / 4
    assert hit == 0.25
    assert mrr == hit + (1 - hit) / 2  # its most: all others at rank 2


def test_every_metric_is_defined_and_found_by_name() -> None:
    assert all(len(text) > 20 for _, text in METRICS.values())
    assert find_metric("nDCG@10") == "ndcg@10"
    with pytest.raises(InvalidInput, match="choose among hit@1"):
        find_metric("ndcg@7")
