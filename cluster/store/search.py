"""One search of a collection: pages ranked by vector and by full text, fused, and their rows.

Milvus is asked twice, one time after the other: for both rankings at once, then for the rows shown.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from cluster.core import Hit
from cluster.errors import StoreUnavailable
from cluster.store import schema
from cluster.store.client import SESSION, Client, Entity
from cluster.store.conditions import is_one_of
from cluster.store.format import StoredCollection
from cluster.store.ranking import RankedRow, rank_pages

FUSED_DEPTH = 100  # pages of each ranking that take part in the fusion
HIT_FIELDS = ["doc_id", "page", "chunk", "title", "source", "text", "tenant", "tags", "metadata"]
HIT_FIELDS += [schema.EXPECTED_CER]

Ranking = dict[str, RankedRow]  # by page, best first
FuseScores = Callable[[dict[str, float], dict[str, float]], dict[str, float]]


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
    is_hybrid = vector is not None and bool(terms)
    depth = max(top_k, FUSED_DEPTH) if is_hybrid else top_k
    rank = partial(rank_pages, client, stored, expression=expression, pages=depth)
    by_vector = partial(rank, "vector", vector)
    by_text = partial(_by_text, client, stored, partial(rank, "sparse", terms))
    dense: Ranking = {}
    text: Ranking = {}
    fused: dict[str, float] = {}
    if is_hybrid:
        dense, text = client.side_by_side(by_vector, by_text)
        fused = fuse_scores(_scores(dense), _scores(text))
        order = sorted(fused, key=lambda page: (-fused[page], page))
    elif terms:
        text = by_text()
        order = list(text)
    else:
        dense = by_vector()
        order = list(dense)
    # The text side shows the chunk that matched.
    shown = {page: (text.get(page) or dense[page]).row_id for page in order[:top_k]}
    entities = rows_by_id(client, stored, shown.values(), HIT_FIELDS, SESSION)
    return [
        _to_hit(entities[row_id], dense.get(page), text.get(page), fused.get(page))
        for page, row_id in shown.items()
        if row_id in entities  # forgotten since
    ]


def rows_by_id(
    client: Client,
    stored: StoredCollection,
    row_ids: Iterable[str],
    fields: Sequence[str],
    consistency: str,
) -> dict[str, Entity]:
    """Return rows by ids that came out of the index, or that we made."""
    ids = list(row_ids)
    if not ids:
        return {}
    wanted = ["row_id", *fields]
    entities = client.query(stored.pages, is_one_of("row_id", ids), wanted, consistency)
    return {entity["row_id"]: entity for entity in entities}


def _by_text(client: Client, stored: StoredCollection, rank: Callable[[], Ranking]) -> Ranking:
    """Rank pages by full text."""
    try:
        return rank()
    except StoreUnavailable:
        # Milvus Lite cannot weigh the terms of no text at all.
        if client.layout.is_server or client.count(stored.pages, ""):
            raise
        return {}


def _scores(ranking: Ranking) -> dict[str, float]:
    return {page: row.score for page, row in ranking.items()}


def _to_hit(
    entity: Entity, dense: RankedRow | None, text: RankedRow | None, fused: float | None
) -> Hit:
    return Hit(
        **schema.page_facts(entity),
        dense=dense.score if dense else None,
        text_score=text.score if text else None,
        fused=fused,
    )
