"""Change what is known of a document (tags, metadata, title, source) without embedding anything.

Milvus Lite 2.5.1 cannot write some fields of a row alone, so rows are read with their vectors and
written back. They carry these fields because every search filters by them.
"""

from collections.abc import Callable
from dataclasses import replace

from cluster.core import Document, Filter
from cluster.ids import key_of
from cluster.store import schema
from cluster.store.deletion import Owner, end_deletion, owners
from cluster.store.milvus import MilvusStore, rows_of
from cluster.store.rows import upsert_rows, whole_rows


def rewrite_document(
    store: MilvusStore,
    before: Document,
    after: Document,
    get_on: Callable[[], None] = lambda: None,
) -> Owner:
    """Give a document that is stored as `before`, and its rows, the facts of `after`.

    `after` carries the mark of whoever changes it, which is stored first: what is deleted
    meanwhile stays deleted ("gone"), and what an ingest takes over is left to it ("another").
    The facts of the document go last: an interruption leaves them, and the next call does it again.
    `get_on` is called after each batch of rows.
    """
    stored = store.required()
    facts = schema.row_facts(after)
    store.put_document(replace(before, marks=after.marks))
    rows = 0
    for entities in whole_rows(store.client, stored, rows_of(after)):
        upsert_rows(store.client, stored, [entity | facts for entity in entities])
        rows += len(entities)
        get_on()
        if (owner := _owner(store, after)) != "ours":
            return owner
    if (owner := _owner(store, after)) != "ours":
        return owner
    store.put_document(after)
    if rows and not store.count_pages(Filter.of(after)):  # deleted between the look and the write
        end_deletion(store, after)
        return "gone"
    return "ours"


def _owner(store: MilvusStore, document: Document) -> Owner:
    """Return whose a document is; rows of one that is gone go, too."""
    owner = owners(store, [document])[key_of(document)]
    if owner == "gone":
        store.forget_pages(document)
    return owner
