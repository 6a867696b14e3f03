"""Fusing rankings of pages into one."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

RRF_K = 60  # Cormack, Clarke and Büttcher, SIGIR 2009
Fusion = Literal["rrf", "weights"]
Scores = Mapping[str, float]  # by page, best first; higher is better


@dataclass(frozen=True)
class Side:
    """Rankings of one kind with a weight together: a page counts by the one it is best in."""

    rankings: tuple[Scores, ...]
    weight: float


def fuse(sides: Iterable[Side], method: Fusion) -> dict[str, float]:
    """Return the fused score of each page in any ranking of these sides.

    rrf: weight / (60 + rank), summed over the sides. weights: scores divided by the best of their
    ranking, then weighted and summed.
    """
    fused: dict[str, float] = {}
    for side in sides:
        shares: dict[str, float] = {}
        for ranking in side.rankings:
            for page, share in _shares(ranking, method):
                shares[page] = max(share, shares.get(page, 0.0))
        for page, share in shares.items():
            fused[page] = fused.get(page, 0.0) + side.weight * share
    return fused


def _shares(ranking: Scores, method: Fusion) -> Iterator[tuple[str, float]]:
    # A cosine may be negative; moved up by the worst, scores keep their order.
    floor = min([0.0, *ranking.values()])
    best = max(ranking.values(), default=0.0) - floor
    for rank, (page, score) in enumerate(ranking.items(), start=1):
        yield page, 1 / (RRF_K + rank) if method == "rrf" else (score - floor) / (best or 1.0)
