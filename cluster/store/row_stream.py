"""Rows of a collection as they were written, in batches: with their vectors and documents."""

from collections.abc import Iterator
from typing import Literal, get_args

from cluster.core import Document, Filter, Row
from cluster.errors import InvalidInput
from cluster.ids import key_of
from cluster.store import schema
from cluster.store.client import COMPUTED, COPY_ROWS, Entity
from cluster.store.filters import to_expression
from cluster.store.format import StoredCollection
from cluster.store.milvus import MilvusStore
from cluster.store.rows import OF_CHUNKS, OF_PAGES, count_rows, whole_rows

RowKind = Literal["pages", "chunks", "all"]
_OF_KIND: dict[RowKind, str] = {"pages": OF_PAGES, "chunks": OF_CHUNKS, "all": ""}
# Of a row, what is neither a reading nor of its document.
_OWN_FIELDS = {"row_id", "doc_key", "labels", "kind", "terms", "vector", *schema.KEYS, *COMPUTED}


def count_stream(store: MilvusStore, wanted: Filter, kind: RowKind) -> int:
    """Count the rows that `stream_rows` would yield. Raises InvalidInput."""
    return count_rows(store.client, store.required(), _expression(wanted, kind))


def stream_rows(
    store: MilvusStore, wanted: Filter, kind: RowKind, batch_rows: int = COPY_ROWS
) -> Iterator[list[Row]]:
    """Yield the rows that pass in batches, chunks before pages; expected CER among the readings.

    Raises InvalidInput, also where a row's document went meanwhile.
    """
    stored = store.required()
    for entities in whole_rows(store.client, stored, _expression(wanted, kind), batch_rows):
        yield _to_rows(store, stored, entities)


def _expression(wanted: Filter, kind: RowKind) -> str:
    if kind not in get_args(RowKind):
        raise InvalidInput(f"--rows is one of {', '.join(get_args(RowKind))}, not {kind!r}")
    return " and ".join(filter(None, [to_expression(wanted), _OF_KIND[kind]]))


def _to_rows(store: MilvusStore, stored: StoredCollection, entities: list[Entity]) -> list[Row]:
    stubs = [Document(each["doc_id"], "", "", tenant=each["tenant"]) for each in entities]
    documents = store.stored_documents({key_of(stub): stub for stub in stubs}.values())
    if any(key_of(stub) not in documents for stub in stubs):
        raise InvalidInput(
            f"documents of {store.name!r} went while it was read: stop what deletes them and run "
            "this again"
        )
    return [
        _to_row(documents[key_of(stub)], entity)
        for stub, entity in zip(stubs, entities, strict=True)
    ]


def _to_row(document: Document, entity: Entity) -> Row:
    of_row = {"page", "chunk", "text", "width_px", "height_px"}
    others = entity.keys() - of_row - _OWN_FIELDS - set(schema.DOCUMENT_FIELDS)
    return Row(
        document,
        **{name: entity[name] for name in of_row},
        vector=entity.get("vector"),
        readings=schema.readings_of(entity, sorted({*others, schema.EXPECTED_CER})),
    )
