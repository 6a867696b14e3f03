"""Ranking metrics against values worked out by hand and against a plain definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.retrieval.metrics import (
    RankingMetrics,
    ndcg_at,
    possible_ranks,
    recall_at,
    reciprocal_rank,
)


def test_an_answer_among_equals_has_each_of_their_ranks() -> None:
    assert possible_ranks([0.9, 0.5, 0.5, 0.5, 0.1], 0.5) == range(2, 5)
    assert possible_ranks([3.0], 3.0) == range(1, 2)
    assert possible_ranks([-1.0, -2.0, -2.0 - 1e-9], -2.0) == range(2, 4)


def test_metrics_of_one_query() -> None:
    ranks = range(2, 4)  # second or third
    assert recall_at(1, ranks) == 0 and recall_at(2, ranks) == 0.5 and recall_at(3, ranks) == 1
    assert reciprocal_rank(ranks) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert ndcg_at(2, ranks) == pytest.approx(0.5 / math.log2(3))
    assert recall_at(10, []) == reciprocal_rank([]) == ndcg_at(5, []) == 0.0


def test_metrics_of_several_queries() -> None:
    scores = [[0.9, 0.1, 0.3], [0.2, 0.8, 0.8]]
    metrics = RankingMetrics.of_scores(scores, [0, 2])
    assert metrics.queries == 2
    assert metrics.recall_1 == pytest.approx((1 + 0.5) / 2)
    assert metrics.mrr == pytest.approx((1 + (1 + 1 / 2) / 2) / 2)
    assert RankingMetrics.of([]) == RankingMetrics(0, 0.0, 0.0, 0.0, 0.0)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12), st.data())
def test_it_is_the_mean_over_the_orders_of_equals(scores: list[int], data: st.DataObject) -> None:
    answer = data.draw(st.integers(0, len(scores) - 1))
    ranks = possible_ranks(map(float, scores), float(scores[answer]))
    better = sum(score > scores[answer] for score in scores)
    assert list(ranks) == [better + 1 + place for place in range(scores.count(scores[answer]))]
