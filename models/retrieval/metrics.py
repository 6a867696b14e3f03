"""Ranking metrics of queries that one page each answers: Recall@k, MRR, nDCG@k, with ties.

Where several pages have the same score, the answer's rank is any of theirs, so every metric is the
mean over those ranks; whichever the index happens to name first does not matter.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EQUAL = 1e-5  # scores that differ by less, as a share of the answer's, are the same


def possible_ranks(scores: Iterable[float], answer: float) -> range:
    """The ranks, from 1, that the page with the score `answer` may have among all `scores`."""
    slack = EQUAL * abs(answer)
    better = equal = 0
    for score in scores:
        better += score > answer + slack
        equal += abs(score - answer) <= slack
    return range(better + 1, better + 1 + equal)


def recall_at(k: int, ranks: Sequence[int]) -> float:
    """Recall@k of one query from its answer's possible ranks; 0 where there are none."""
    return _mean([float(rank <= k) for rank in ranks])


def reciprocal_rank(ranks: Sequence[int]) -> float:
    """1 / rank of one query's answer; 0 where it was not found."""
    return _mean([1 / rank for rank in ranks])


def ndcg_at(k: int, ranks: Sequence[int]) -> float:
    """nDCG@k of one query with one relevant page (Järvelin and Kekäläinen, 2002)."""
    return _mean([1 / math.log2(1 + rank) if rank <= k else 0.0 for rank in ranks])


@dataclass(frozen=True)
class RankingMetrics:
    """Means over queries."""

    queries: int
    recall_1: float
    recall_10: float
    mrr: float
    ndcg_5: float

    @classmethod
    def of(cls, ranks: Sequence[Sequence[int]]) -> "RankingMetrics":
        """Metrics from the possible ranks of each query's answer; empty where it was not found."""
        return cls(
            queries=len(ranks),
            recall_1=_mean([recall_at(1, each) for each in ranks]),
            recall_10=_mean([recall_at(10, each) for each in ranks]),
            mrr=_mean([reciprocal_rank(each) for each in ranks]),
            ndcg_5=_mean([ndcg_at(5, each) for each in ranks]),
        )

    @classmethod
    def of_scores(
        cls, scores: Sequence[Sequence[float]], answers: Sequence[int]
    ) -> "RankingMetrics":
        """Metrics from scores[query][page] and the number of each query's answering page."""
        pairs = zip(scores, answers, strict=True)
        return cls.of([possible_ranks(row, row[answer]) for row, answer in pairs])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
