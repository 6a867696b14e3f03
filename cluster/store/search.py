"""One search of a collection: pages ranked by vectors and by full text, fused, and their rows.

A page is found by its picture, by a chunk of its text (both are vectors), by the words of all its
text, or by those of one chunk. Milvus is asked twice, one time after the other: for all rankings at
once, then for the rows shown.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from cluster.core import Hit
from cluster.store import schema
from cluster.store.client import SESSION, Client, Entity
from cluster.store.format import StoredCollection
from cluster.store.fusion import Scores
from cluster.store.ranking import PageRanker, RankedRow, Ranking, fold_best, scores_of
from cluster.store.rows import rows_by_id

FUSED_DEPTH = 100  # pages of each ranking that take part in the fusion
HIT_FIELDS = ["doc_id", "page", "chunk", "title", "source", "text", "tenant", "tags", "metadata"]
HIT_FIELDS += [schema.EXPECTED_CER]

FuseScores = Callable[[Scores, Scores], Scores]


@dataclass(frozen=True)
class Rankings:
    """Pages by each of what they are found by; empty where that was not asked for."""

    pictures: Ranking = field(default_factory=dict)
    chunks: Ranking = field(default_factory=dict)
    page_text: Ranking = field(default_factory=dict)
    chunk_text: Ranking = field(default_factory=dict)


def search_pages(
    client: Client,
    stored: StoredCollection,
    *,
    vector: list[float] | None,
    terms: str,
    expression: str,
    top_k: int,
    fuse_scores: FuseScores,
) -> list[Hit]:
    """Return the best pages, best first, each with the scores that made its rank.

    Without a `vector` float[dimension] or without `terms` ("") the other side ranks alone;
    `fuse_scores` takes the scores of both sides, dense first.
    """
    ranker = PageRanker(client, stored, expression, max(top_k, FUSED_DEPTH))
    rankings = _rank(ranker, vector, terms)
    dense = fold_best(rankings.pictures, rankings.chunks)
    text = fold_best(rankings.page_text, rankings.chunk_text)
    fused: Scores = {}
    order = list(dense or text)
    if vector is not None and terms:
        fused = fuse_scores(scores_of(dense), scores_of(text))
        order = sorted(fused, key=lambda page: (-fused[page], page))
    # The text side shows the chunk that matched.
    shown = {page: (text.get(page) or dense[page]).row_id for page in order[:top_k]}
    entities = rows_by_id(client, stored, shown.values(), HIT_FIELDS, SESSION)
    return [
        _to_hit(entities[row_id], dense.get(page), text.get(page), fused.get(page))
        for page, row_id in shown.items()
        if row_id in entities  # forgotten since
    ]


def _rank(ranker: PageRanker, vector: list[float] | None, terms: str) -> Rankings:
    """Ask for all rankings at once."""
    calls: dict[str, Callable[[], Ranking]] = {}
    if vector is not None:
        calls["pictures"] = partial(ranker.rank, "pages", "vector", vector)
        if ranker.stored.chunk_vectors:
            calls["chunks"] = partial(ranker.rank, "chunks", "vector", vector)
    if terms:
        calls["page_text"] = partial(ranker.rank, "pages", "sparse", terms)
        calls["chunk_text"] = partial(ranker.rank, "chunks", "sparse", terms)
    rankings = ranker.client.all_at_once(list(calls.values()))
    return Rankings(**dict(zip(calls, rankings, strict=True)))


def _to_hit(
    entity: Entity, dense: RankedRow | None, text: RankedRow | None, fused: float | None
) -> Hit:
    return Hit(
        **schema.page_facts(entity),
        dense=dense.score if dense else None,
        text_score=text.score if text else None,
        fused=fused,
    )
