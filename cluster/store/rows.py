"""Rows of pages and chunks as one, wherever they lie: in two collections of Milvus, or in one."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from cluster.store.client import COPY_ROWS, STRONG, Client, Entity
from cluster.store.conditions import is_one_of
from cluster.store.format import StoredCollection

OF_PAGES, OF_CHUNKS = "chunk == 0", "chunk > 0"  # expressions for the two kinds of rows
WRITE_ROWS = 256  # in one message: Milvus takes 64 MB, and a row of the 8B has 20 KB


def upsert_rows(client: Client, stored: StoredCollection, entities: Iterable[Entity]) -> None:
    """Write or overwrite rows, chunks first: where a page's own row is there, so are its chunks."""
    rows = list(entities)
    chunks = [entity for entity in rows if entity["chunk"]]
    pages = [entity for entity in rows if not entity["chunk"]]
    for name, of_table in ((stored.chunks, chunks), (stored.pages, pages)):
        for start in range(0, len(of_table), WRITE_ROWS):
            batch = of_table[start : start + WRITE_ROWS]
            client.upsert(name, [stored.fitting(entity) for entity in batch])


def count_rows(client: Client, stored: StoredCollection, expression: str = "") -> int:
    """Count the rows that pass."""
    return sum(_counts(client, stored, expression).values())


def delete_rows(client: Client, stored: StoredCollection, expression: str) -> int:
    """Remove the rows that pass, those of pages first; returns how many.

    Where there are none it costs a count.
    """
    counts = _counts(client, stored, expression)
    for name in reversed(stored.tables):
        if counts[name]:
            client.delete(name, expression)
    return sum(counts.values())


def _counts(client: Client, stored: StoredCollection, expression: str) -> dict[str, int]:
    calls = [partial(client.count, name, expression) for name in stored.tables]
    return dict(zip(stored.tables, client.all_at_once(calls), strict=True))


def whole_rows(
    client: Client, stored: StoredCollection, expression: str, batch_rows: int = COPY_ROWS
) -> Iterator[list[Entity]]:
    """Yield every row that passes with all its fields, in batches; chunks before pages."""
    for name in stored.tables:
        yield from client.whole_rows(name, expression, batch_rows)


def rows_by_id(
    client: Client,
    stored: StoredCollection,
    row_ids: Iterable[str],
    fields: Sequence[str],
    consistency: str = STRONG,
) -> dict[str, Entity]:
    """Return rows by ids that came out of the index, or that we made; those gone are left out."""
    by_table: dict[str, list[str]] = {}
    for row_id in row_ids:
        is_chunk = row_id.rpartition(":")[2] != "0"
        by_table.setdefault(stored.chunks if is_chunk else stored.pages, []).append(row_id)
    wanted = ["row_id", *fields]
    calls = [
        partial(client.query, name, is_one_of("row_id", ids), wanted, consistency)
        for name, ids in by_table.items()
    ]
    return {entity["row_id"]: entity for rows in client.all_at_once(calls) for entity in rows}
