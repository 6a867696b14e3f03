"""One search of a collection: pages ranked by vectors and by full text, fused, and their rows.

A page is found by its picture, by a chunk of its text (both are vectors), and by the words of all
its text and of its best chunk. Vectors of text lie nearer to a question than those of pictures do,
whatever they say, so a page counts by its better rank among pictures and among chunks, not by its
better cosine. Milvus is asked twice, one time after the other: for all rankings at once, then for
the rows shown.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from cluster.core import Hit
from cluster.store import schema
from cluster.store.client import SESSION
from cluster.store.fusion import Fusion, Scores, Side, fuse
from cluster.store.ranking import PageRanker, Ranking, scores_of
from cluster.store.rows import rows_by_id

FUSED_DEPTH = 100  # pages of each ranking that take part in the fusion
HIT_FIELDS = ["doc_id", "page", "chunk", "title", "source", "text", "tenant", "tags", "metadata"]
HIT_FIELDS += [schema.EXPECTED_CER]


@dataclass(frozen=True)
class Search:
    """What is looked for: by a vector float[dimension], by terms, or by both.

    `chunk_vectors`: whether pages are found by vectors of their chunks, too. `dense_weight`: of
    what is found by vectors; text has the rest.
    """

    vector: list[float] | None
    terms: str
    chunk_vectors: bool
    fusion: Fusion
    dense_weight: float
    top_k: int


@dataclass(frozen=True)
class _Rankings:
    """Pages by each of what they are found by; empty where that was not asked for."""

    pictures: Ranking = field(default_factory=dict)
    chunks: Ranking = field(default_factory=dict)
    page_text: Ranking = field(default_factory=dict)
    chunk_text: Ranking = field(default_factory=dict)

    @property
    def text_scores(self) -> Scores:
        """Return BM25 of pages, of all their text and of their best chunk together, best first."""
        scores = scores_of(self.page_text)
        for page, row in self.chunk_text.items():
            scores[page] = scores.get(page, 0.0) + row.score
        return dict(sorted(scores.items(), key=lambda entry: -entry[1]))

    def cosine(self, page: str) -> float:
        """Return the best cosine of a page's own vector and its chunks'; -inf for none."""
        rows = [ranking[page] for ranking in (self.pictures, self.chunks) if page in ranking]
        return max((row.score for row in rows), default=-math.inf)

    def row_id(self, page: str) -> str:
        """Return the row to show of a page: the chunk that has the words, else what was nearest."""
        rankings = (self.chunk_text, self.page_text, self.chunks, self.pictures)
        return next(ranking[page] for ranking in rankings if page in ranking).row_id


def search_pages(ranker: PageRanker, search: Search) -> list[Hit]:
    """Return the best pages, best first, each with the scores that made its rank."""
    rankings = _rank(ranker, search)
    text = rankings.text_scores
    dense = tuple(scores_of(each) for each in (rankings.pictures, rankings.chunks) if each)
    fused: Scores = {}
    if len(dense) + bool(text) > 1:
        weight = search.dense_weight if search.terms else 1.0
        fused = fuse([Side(dense, weight), Side((text,), 1 - weight)], search.fusion)
        order = sorted(fused, key=lambda page: (-fused[page], -rankings.cosine(page), page))
    else:
        order = [page for ranking in (*dense, text) for page in ranking]
    shown = {page: rankings.row_id(page) for page in order[: search.top_k]}
    entities = rows_by_id(ranker.client, ranker.stored, shown.values(), HIT_FIELDS, SESSION)
    return [
        Hit(
            **schema.page_facts(entities[row_id]),
            dense=_finite(rankings.cosine(page)),
            text_score=text.get(page),
            fused=fused.get(page),
        )
        for page, row_id in shown.items()
        if row_id in entities  # forgotten since
    ]


def _rank(ranker: PageRanker, search: Search) -> _Rankings:
    """Ask for all rankings at once."""
    calls: dict[str, Callable[[], Ranking]] = {}
    if search.vector is not None:
        calls["pictures"] = partial(ranker.rank, "pages", "vector", search.vector)
        if search.chunk_vectors and ranker.stored.chunk_vectors:
            calls["chunks"] = partial(ranker.rank, "chunks", "vector", search.vector)
    if search.terms:
        calls["page_text"] = partial(ranker.rank, "pages", "sparse", search.terms)
        calls["chunk_text"] = partial(ranker.rank, "chunks", "sparse", search.terms)
    rankings = ranker.client.all_at_once(list(calls.values()))
    return _Rankings(**dict(zip(calls, rankings, strict=True)))


def _finite(score: float) -> float | None:
    return score if math.isfinite(score) else None
