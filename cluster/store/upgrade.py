"""Bring a collection of an older format to today's: rows are copied, nothing is embedded again."""

from collections.abc import Callable
from dataclasses import dataclass

from cluster.errors import InvalidInput, NotFound
from cluster.store.client import Client, StoreAddress
from cluster.store.copying import check_quiet, copy_collection_rows
from cluster.store.format import (
    FORMAT,
    StoredCollection,
    create_collection,
    find_collection,
    names_in_milvus,
    read_format,
)
from cluster.store.rows import count_rows


@dataclass(frozen=True)
class Upgrade:
    """What was done to a collection; `rows` of pages and chunks, 0 where nothing was to be done."""

    collection: str
    format_before: int
    format: int
    rows: int


def upgrade_collection(
    address: StoreAddress, progress: Callable[[int, int], None] = lambda done, total: None
) -> Upgrade:
    """Copy a collection into today's format, then drop the old one.

    The old collection counts until all of it was copied, so an upgrade may be interrupted; the next
    one begins again. `progress` gets rows done and rows in all.
    Raises NotFound, InvalidInput while documents are being indexed or deleted, FormatMismatch where
    a newer Quire made it.
    """
    client = Client(address)
    stored = find_collection(client, address.collection)
    if stored is None:
        raise NotFound(f"there is no collection {address.collection!r}")
    _drop_others(client, stored)  # a copy that was begun may hold what was removed since
    if stored.format == FORMAT:
        return Upgrade(stored.name, FORMAT, FORMAT, 0)
    check_quiet(client, stored)
    create_collection(client, stored.name, stored.fingerprint)
    copy = read_format(client, stored.name)
    rows = count_rows(client, stored)
    copy_collection_rows(client, stored, copy, progress=lambda done: progress(done, rows))
    if _count(client, stored) != _count(client, copy):
        raise InvalidInput(
            f"{stored.name!r} changed while it was upgraded: stop what writes to it and upgrade "
            "again"
        )
    client.drop(stored.pages)  # from here on the copy counts
    client.drop(stored.documents)
    return Upgrade(stored.name, stored.format, FORMAT, rows)


def _count(client: Client, stored: StoredCollection) -> tuple[int, int]:
    return client.count(stored.documents, ""), count_rows(client, stored)


def _drop_others(client: Client, stored: StoredCollection) -> None:
    """Drop what an interrupted upgrade left of this collection: half a copy, or old documents."""
    for name in names_in_milvus(client, stored.name) - {*stored.tables, stored.documents}:
        client.drop(name)
