"""One ranking of pages: the rows nearest to a vector or to terms, the best row of each page."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

from cluster.store import schema
from cluster.store.client import QUERY_ROWS, Client
from cluster.store.format import StoredCollection

ROWS_PER_PAGE = 6  # a guess: the page row and some chunks; asked again where it was too low


@dataclass(frozen=True)
class RankedRow:
    """A page's best row and its score; higher is better."""

    row_id: str
    score: float


def rank_pages(
    client: Client, stored: StoredCollection, field: str, target: Any, expression: str, pages: int
) -> dict[str, RankedRow]:
    """Return the best `pages` pages by one field, best first; a page scores as its best row."""
    if stored.has_keys:
        rows = client.search(
            stored.pages, field, target, expression, pages, group_by=schema.PAGE_KEY
        )
        return {_page_of(row_id): RankedRow(row_id, score) for row_id, score in rows}
    return _rank_rows(client, stored.pages, field, target, expression, pages)


def _rank_rows(
    client: Client, name: str, field: str, target: Any, expression: str, pages: int
) -> dict[str, RankedRow]:
    """Return the same of an older collection, whose rows Milvus cannot group by page."""
    limit = min(QUERY_ROWS, pages * ROWS_PER_PAGE)
    while True:
        rows = client.search(name, field, target, expression, limit)
        best: dict[str, RankedRow] = {}
        for row_id, score in rows:
            best.setdefault(_page_of(row_id), RankedRow(row_id, score))
        if len(best) >= pages or len(rows) < limit or limit == QUERY_ROWS:
            return dict(islice(best.items(), pages))
        limit = min(QUERY_ROWS, limit * 4)


def _page_of(row_id: str) -> str:
    return row_id.rpartition(":")[0]
