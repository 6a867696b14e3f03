"""Rankings of pages: by their own rows, or by the best of their chunks."""

from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from cluster.errors import StoreUnavailable
from cluster.store import schema
from cluster.store.client import QUERY_ROWS, Client
from cluster.store.format import StoredCollection
from cluster.store.rows import OF_CHUNKS, OF_PAGES

ROWS_PER_PAGE = 6  # a guess at a page's chunks; asked again where it was too low
Table = Literal["pages", "chunks"]


@dataclass(frozen=True)
class RankedRow:
    """A page's best row and its score; higher is better."""

    row_id: str
    score: float


Ranking = dict[str, RankedRow]  # by page, best first


@dataclass(frozen=True)
class PageRanker:
    """Ranks the pages that pass a filter; a page scores as its own row, or as its best chunk."""

    client: Client
    stored: StoredCollection
    expression: str
    pages: int  # at most so many are ranked

    def rank(self, table: Table, field: str, target: Any) -> Ranking:
        """Return the best pages by the vectors, or the full text, of one kind of rows."""
        of_chunks = table == "chunks"
        name = self.stored.chunks if of_chunks else self.stored.pages
        expression = self.expression
        if not self.stored.has_chunk_table:
            expression = _both(expression, OF_CHUNKS if of_chunks else OF_PAGES)
        try:
            if of_chunks and not self.stored.has_keys:
                return self._rank_ungrouped(name, field, target, expression)
            group_by = schema.PAGE_KEY if of_chunks else ""
            rows = self.client.search(
                name, field, target, expression, self.pages, group_by=group_by
            )
        except StoreUnavailable:
            # Milvus Lite cannot weigh the terms of no text at all.
            if self.client.layout.is_server or self.client.count(name, ""):
                raise
            rows = []
        return {_page_of(row_id): RankedRow(row_id, score) for row_id, score in rows}

    def _rank_ungrouped(self, name: str, field: str, target: Any, expression: str) -> Ranking:
        """Return the same of an older collection, whose chunks Milvus cannot group by page."""
        limit = min(QUERY_ROWS, self.pages * ROWS_PER_PAGE)
        while True:
            rows = self.client.search(name, field, target, expression, limit)
            best: Ranking = {}
            for row_id, score in rows:
                best.setdefault(_page_of(row_id), RankedRow(row_id, score))
            if len(best) >= self.pages or len(rows) < limit or limit == QUERY_ROWS:
                return dict(islice(best.items(), self.pages))
            limit = min(QUERY_ROWS, limit * 4)


def scores_of(ranking: Ranking) -> dict[str, float]:
    """Return the scores of a ranking, best first."""
    return {page: row.score for page, row in ranking.items()}


def _both(first: str, second: str) -> str:
    return f"{first} and {second}" if first else second


def _page_of(row_id: str) -> str:
    return row_id.rpartition(":")[0]
