"""Fusing the dense and the text ranking of pages into one."""

from typing import Literal

from cluster.core import Hit

RRF_K = 60  # Cormack, Clarke and Büttcher, SIGIR 2009
Key = tuple[str, str, int]
Fusion = Literal["rrf", "weights"]


def key_of(hit: Hit) -> Key:
    """A page's identity across tenants."""
    return hit.tenant, hit.doc_id, hit.page


def fuse(
    dense: list[Hit], text: list[Hit], method: Fusion, dense_weight: float
) -> dict[Key, float]:
    """Fused score of each page in either ranking (best first); higher is better.

    rrf: w / (60 + rank) summed over both rankings. weights: scores divided by the best of their
    ranking, then weighted. The text ranking weighs 1 - dense_weight.
    """
    fused: dict[Key, float] = {}
    for hits, weight in ((dense, dense_weight), (text, 1 - dense_weight)):
        best = max((_score(hit) for hit in hits), default=0.0)
        for rank, hit in enumerate(hits, start=1):
            share = 1 / (RRF_K + rank) if method == "rrf" else _score(hit) / (best or 1.0)
            fused[key_of(hit)] = fused.get(key_of(hit), 0.0) + weight * share
    return fused


def _score(hit: Hit) -> float:
    score = hit.dense if hit.dense is not None else hit.text_score
    return score if score is not None else 0.0
