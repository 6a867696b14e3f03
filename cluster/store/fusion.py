"""Fusing rankings of pages into one."""

from collections.abc import Mapping
from typing import Literal

RRF_K = 60  # Cormack, Clarke and Büttcher, SIGIR 2009
Fusion = Literal["rrf", "weights"]
Scores = Mapping[str, float]  # by page, best first; higher is better


def fuse(dense: Scores, text: Scores, method: Fusion, dense_weight: float) -> dict[str, float]:
    """Return the fused score of each page in either ranking.

    rrf: w / (60 + rank) summed over both rankings. weights: scores divided by the best of their
    ranking, then weighted. The text ranking weighs 1 - dense_weight.
    """
    fused: dict[str, float] = {}
    for ranking, weight in ((dense, dense_weight), (text, 1 - dense_weight)):
        # A cosine may be negative; moved up by the worst, scores keep their order.
        floor = min([0.0, *ranking.values()])
        best = max(ranking.values(), default=0.0) - floor
        for rank, (page, score) in enumerate(ranking.items(), start=1):
            share = 1 / (RRF_K + rank) if method == "rrf" else (score - floor) / (best or 1.0)
            fused[page] = fused.get(page, 0.0) + weight * share
    return fused
