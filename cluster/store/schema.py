"""The collections of Milvus behind a Quire collection: documents, rows of pages, and of chunks."""

import json
from collections.abc import Iterable
from typing import Any

from pymilvus import DataType, Function, FunctionType, MilvusClient

from cluster.core import DOC_ID_CHARS, Document, Page, Readings, Row, Scalar
from cluster.errors import InvalidInput
from cluster.ids import (
    LABEL_CHARS,
    SCOPE_CHARS,
    checked_doc_id,
    filter_label,
    is_mark,
    key_of,
    page_row_id,
)
from cluster.sources import source_name
from cluster.store.conditions import MAX_LABELS, MAX_NUMBER, checked_metadata_key
from cluster.store.filters import TENANT_KEY, UNKNOWN_CER, labels_of
from cluster.store.layout import Layout
from cluster.text.terms import cut_utf8, to_terms

VARCHAR_BYTES = 65_535
TITLE_BYTES = 1_024
PATH_BYTES = 4_096
NAME_BYTES = 256
LISTED_BYTES = 4_096
MAX_TAGS = 64
METADATA_BYTES = 32_768
EXPECTED_CER = "expected_cer"  # a reading with a field of its own, UNKNOWN_CER where there is none
# A row of the documents collection that is no document: that a tenant was forgotten (deletion.py).
TENANT_MARK_ID = "0" * DOC_ID_CHARS
IS_DOCUMENT = f'doc_id != "{TENANT_MARK_ID}"'
# Milvus asks for a vector in every collection; documents have none of their own.
NO_VECTOR = [0.0, 1.0]
# Fields that older collections lack (StoredCollection.has_keys).
PAGE_KEY = "page_key"  # of a page and its chunks, so that the best row of each page can be found
MARKS = "marks"  # of a document, as JSON: Milvus Lite takes a millisecond to return an array
SOURCE_KEY = "source_key"  # the digest of a document's source
LISTED_AS = "listed_as"  # a document's title and file name, in small letters
DOCUMENT_FIELDS = (
    "doc_id",
    "sha256",
    "source",
    "title",
    "pages",
    "status",
    "error",
    "tenant",
    "tags",
    "metadata",
    "fingerprint",
    "time_ms",
)
KEYS = frozenset({PAGE_KEY, TENANT_KEY, MARKS, SOURCE_KEY, LISTED_AS})


def documents_schema(layout: Layout) -> tuple[Any, Any]:
    """Schema and index of the documents collection."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("doc_key", DataType.VARCHAR, is_primary=True, max_length=64)
    _add_document_fields(schema)
    schema.add_field(MARKS, DataType.JSON)
    schema.add_field(SOURCE_KEY, DataType.VARCHAR, max_length=LABEL_CHARS)
    schema.add_field(LISTED_AS, DataType.VARCHAR, max_length=LISTED_BYTES)
    schema.add_field("sha256", DataType.VARCHAR, max_length=64)
    schema.add_field("pages", DataType.INT64)
    schema.add_field("status", DataType.VARCHAR, max_length=16)
    schema.add_field("error", DataType.VARCHAR, max_length=PATH_BYTES)
    schema.add_field("fingerprint", DataType.VARCHAR, max_length=PATH_BYTES)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=len(NO_VECTOR))
    index = MilvusClient.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")  # of equals, no graph can be
    _add_scalar_indexes(index, layout, ("labels", "doc_id", SOURCE_KEY))
    return schema, index


def rows_schema(dimension: int | None, description: str, layout: Layout) -> tuple[Any, Any]:
    """Return schema and index of the rows of pages, or of chunks; they are the same.

    `description` carries the fingerprint. Without a `dimension` they have no vectors.
    """
    schema = MilvusClient.create_schema(
        auto_id=False, enable_dynamic_field=True, description=description
    )
    schema.add_field("row_id", DataType.VARCHAR, is_primary=True, max_length=96)
    is_partition_key = layout.partitions > 0
    schema.add_field(
        TENANT_KEY, DataType.VARCHAR, max_length=SCOPE_CHARS, is_partition_key=is_partition_key
    )
    schema.add_field("doc_key", DataType.VARCHAR, max_length=64)
    schema.add_field(PAGE_KEY, DataType.VARCHAR, max_length=80)
    _add_document_fields(schema)
    schema.add_field("page", DataType.INT64)
    schema.add_field("chunk", DataType.INT64)
    schema.add_field("kind", DataType.VARCHAR, max_length=8)
    schema.add_field("text", DataType.VARCHAR, max_length=VARCHAR_BYTES)
    schema.add_field(
        "terms",
        DataType.VARCHAR,
        max_length=VARCHAR_BYTES,
        enable_analyzer=True,
        analyzer_params={"tokenizer": "whitespace"},
    )
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    if dimension is not None:
        schema.add_field("vector", layout.vector_type, dim=dimension)
    schema.add_field("width_px", DataType.INT64)
    schema.add_field("height_px", DataType.INT64)
    schema.add_field(EXPECTED_CER, DataType.FLOAT)
    schema.add_function(
        Function(
            name="bm25",
            function_type=FunctionType.BM25,
            input_field_names=["terms"],
            output_field_names=["sparse"],
        )
    )
    index = MilvusClient.prepare_index_params()
    if dimension is not None:
        index.add_index("vector", metric_type="COSINE", **layout.index_options)
    index.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    _add_scalar_indexes(index, layout, ("labels", TENANT_KEY, "doc_key", "doc_id", "chunk"))
    return schema, index


def _add_scalar_indexes(index: Any, layout: Layout, fields: Iterable[str]) -> None:
    """Index what filters ask for; Milvus Lite has no such indexes, and few rows."""
    if not layout.is_server:
        return
    for field in fields:
        index.add_index(field, index_type="INVERTED")
    index.add_index("time_ms", index_type="STL_SORT")


def mark_schema(description: str) -> tuple[Any, Any]:
    """Schema and index of a collection that has a description and stays empty."""
    schema = MilvusClient.create_schema(
        auto_id=False, enable_dynamic_field=False, description=description
    )
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=8)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=len(NO_VECTOR))
    index = MilvusClient.prepare_index_params()
    index.add_index("vector", index_type="AUTOINDEX", metric_type="L2")
    return schema, index


def _add_document_fields(schema: Any) -> None:
    """Add the fields that documents and their rows both carry."""
    schema.add_field("doc_id", DataType.VARCHAR, max_length=32)
    schema.add_field("title", DataType.VARCHAR, max_length=TITLE_BYTES)
    schema.add_field("source", DataType.VARCHAR, max_length=PATH_BYTES)
    schema.add_field("tenant", DataType.VARCHAR, max_length=NAME_BYTES)
    schema.add_field("tags", DataType.JSON)
    schema.add_field(
        "labels",
        DataType.ARRAY,
        element_type=DataType.VARCHAR,
        max_length=LABEL_CHARS,
        max_capacity=MAX_LABELS,
    )
    schema.add_field("metadata", DataType.JSON)
    schema.add_field("time_ms", DataType.INT64)


def is_cut(text: str) -> bool:
    """True where the text of a row may be only the beginning of a page's."""
    return len(text.encode()) > VARCHAR_BYTES - 4  # the longest character in UTF-8


def document_entity(document: Document) -> dict[str, Any]:
    """Return the row of a document."""
    return {
        **_shared_entity(document, extra_labels=[*_own_labels(document), *document.marks]),
        MARKS: list(document.marks),
        SOURCE_KEY: source_key(document.source),
        LISTED_AS: _listed_as(document.title, document.source),
        "sha256": document.sha256,
        "pages": document.pages,
        "status": document.status,
        "error": cut_utf8(document.error, PATH_BYTES),
        "fingerprint": document.fingerprint,
        "vector": NO_VECTOR,
    }


def row_entity(row: Row) -> dict[str, Any]:
    """The row of a page or a chunk; readings that the schema does not name become fields too."""
    row_id = page_row_id(row.document.tenant, row.document.doc_id, row.page, row.chunk)
    return {
        EXPECTED_CER: UNKNOWN_CER,
        **row.readings,
        **_shared_entity(row.document, extra_labels=[]),
        **_keys_of_row(row_id),
        "row_id": row_id,
        "page": row.page,
        "chunk": row.chunk,
        "kind": row.kind,
        # A page's chunks carry what its own row has to cut.
        "text": cut_utf8(row.text, VARCHAR_BYTES),
        "terms": cut_utf8(to_terms(row.text), VARCHAR_BYTES),
        "vector": row.vector,
        "width_px": row.width_px,
        "height_px": row.height_px,
    }


def to_document(entity: dict[str, Any]) -> Document:
    """Return a document from its row."""
    fields = {name: entity[name] for name in DOCUMENT_FIELDS}
    fields |= {"tags": tuple(fields["tags"]), "metadata": dict(fields["metadata"])}
    return Document(**fields, marks=marks_in(entity))


def marks_in(entity: dict[str, Any]) -> tuple[str, ...]:
    """Return the marks of a document's row; rows of older collections have them in their labels."""
    marks = entity.get(MARKS)
    return tuple(filter(is_mark, entity["labels"]) if marks is None else marks)


def source_key(source: str) -> str:
    """Return the digest by which documents of a source can be found."""
    return filter_label("source", source)


def with_keys(entity: dict[str, Any]) -> dict[str, Any]:
    """Return a row, or a document's, with the keys and marks that older collections lack."""
    if "row_id" in entity:
        return entity | _keys_of_row(entity["row_id"])
    return entity | {
        MARKS: list(marks_in(entity)),
        SOURCE_KEY: source_key(entity["source"]),
        LISTED_AS: _listed_as(entity["title"], entity["source"]),
    }


def _keys_of_row(row_id: str) -> dict[str, str]:
    return {PAGE_KEY: row_id.rpartition(":")[0], TENANT_KEY: row_id.partition(":")[0]}


def _listed_as(title: str, source: str) -> str:
    return cut_utf8(f"{title}\n{source_name(source)}".casefold(), LISTED_BYTES)


def row_facts(document: Document) -> dict[str, Any]:
    """Return the fields of a page or chunk row that say whose it is, as a document has them."""
    return _shared_entity(document, extra_labels=[])


def with_source(entity: dict[str, Any], source: str) -> dict[str, Any]:
    """Return a row of a document, page or chunk whose source lies elsewhere now."""
    former = filter_label("source", entity["source"])
    labels = [label for label in entity["labels"] if label != former]
    return entity | {
        "source": cut_utf8(source, PATH_BYTES),
        "labels": [*labels, filter_label("source", source)],
    }


def to_page(entity: dict[str, Any]) -> Page:
    """Return a page from its row."""
    return Page(**page_facts(entity), width_px=entity["width_px"], height_px=entity["height_px"])


def page_facts(entity: dict[str, Any]) -> dict[str, Any]:
    """Take from a row what a page and a hit both have."""
    return {
        **{name: entity[name] for name in ("page", "title", "source", "text", "tenant")},
        "doc_id": checked_doc_id(entity["doc_id"]),
        "tags": tuple(entity["tags"]),
        "metadata": dict(entity["metadata"]),
        EXPECTED_CER: readings_of(entity, (EXPECTED_CER,)).get(EXPECTED_CER),
    }


def readings_of(entity: dict[str, Any], columns: Iterable[str]) -> Readings:
    """Take the readings of a page from its row; a column that was not read is left out."""
    readings = {name: entity[name] for name in columns if entity.get(name) is not None}
    if readings.get(EXPECTED_CER, 0.0) < 0:
        del readings[EXPECTED_CER]
    return readings


def check_document_fields(tenant: str, tags: tuple[str, ...], metadata: dict[str, Scalar]) -> None:
    """Raise InvalidInput where tenant, tags or metadata would not fit into the store."""
    if len(tags) > MAX_TAGS or any(not tag or _bytes(tag) > NAME_BYTES for tag in tags):
        raise InvalidInput(f"at most {MAX_TAGS} tags of 1 to {NAME_BYTES} bytes each")
    if _bytes(tenant) > NAME_BYTES:
        raise InvalidInput(f"a tenant's name has at most {NAME_BYTES} bytes")
    for key, value in metadata.items():
        checked_metadata_key(key)
        if isinstance(value, str):
            _bytes(value)
        elif not -MAX_NUMBER <= value <= MAX_NUMBER:  # also what is not a number
            raise InvalidInput(f"metadata {key}: {value} is not a number that can be stored")
    if len(metadata) > MAX_LABELS // 2 or len(json.dumps(metadata)) > METADATA_BYTES:
        raise InvalidInput(f"metadata: {MAX_LABELS // 2} keys and {METADATA_BYTES} bytes at most")


def _bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{text[:80]!r} holds half a character: write it as UTF-8") from error


def _shared_entity(document: Document, extra_labels: list[str]) -> dict[str, Any]:
    return {
        "doc_key": key_of(document),
        "doc_id": document.doc_id,
        "title": cut_utf8(document.title, TITLE_BYTES),
        "source": cut_utf8(document.source, PATH_BYTES),
        "tenant": document.tenant,
        "tags": list(document.tags),
        "labels": _labels_of(document) + extra_labels,
        "metadata": document.metadata,
        "time_ms": document.time_ms,
    }


def _labels_of(document: Document) -> list[str]:
    return labels_of(document.tenant, document.tags, document.metadata, document.source)


def _own_labels(document: Document) -> list[str]:
    """Return the labels of a document that its rows do not carry."""
    name = filter_label("name", source_name(document.source))
    return [filter_label("status", document.status), name]
