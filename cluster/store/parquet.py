"""Rows of Milvus as Parquet: a column for each field of the schema, and one for all others."""

import json
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pymilvus import DataType

from cluster.errors import InvalidInput
from cluster.store import schema
from cluster.store.client import COMPUTED, COPY_ROWS, Entity
from cluster.store.layout import VECTOR_TYPES

OTHER_FIELDS = "other_fields"  # those that no schema names, as a JSON object
JSON_COLUMNS = ("metadata", "tags", schema.MARKS, OTHER_FIELDS)
_TYPES = {
    DataType.VARCHAR: pa.string(),
    DataType.JSON: pa.string(),
    DataType.INT64: pa.int64(),
    DataType.FLOAT: pa.float32(),
    DataType.ARRAY: pa.list_(pa.string()),
}


def rows_schema(described: dict[str, Any]) -> pa.Schema:
    """Return the columns of a collection of Milvus, from its description."""
    columns = []
    for field in described["fields"]:
        if field["type"] in VECTOR_TYPES.values():
            kind = pa.list_(pa.float32(), int(field["params"]["dim"]))
            columns.append((field["name"], kind))
        elif field["name"] not in COMPUTED:
            columns.append((field["name"], _TYPES[field["type"]]))
    return pa.schema([*columns, (OTHER_FIELDS, pa.string())])


def to_record_batch(entities: list[Entity], columns: pa.Schema) -> pa.RecordBatch:
    """Return rows as a batch of a Parquet file."""
    named = set(columns.names)
    lists = {field.name for field in columns if pa.types.is_list(field.type)}
    rows = []
    for entity in entities:
        others = {name: value for name, value in entity.items() if name not in named}
        row = {name: entity.get(name) for name in columns.names} | {OTHER_FIELDS: others}
        texts = [name for name in JSON_COLUMNS if name in row and name not in lists]
        rows.append(row | {name: _to_json(row[name]) for name in texts})
    return pa.RecordBatch.from_pylist(rows, schema=columns)


def read_rows(file: IO[bytes]) -> Iterator[list[Entity]]:
    """Yield the rows of a Parquet file in batches, as they were."""
    for batch in pq.ParquetFile(file).iter_batches(batch_size=COPY_ROWS):
        yield [_to_entity(row) for row in batch.to_pylist()]


def check_rows(file: IO[bytes], *, key: str, rows: int, dimension: int | None) -> None:
    """Raise InvalidInput unless a Parquet file has this many rows, with what each must have.

    Those without a `dimension` have no vectors.
    """
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"it is no Parquet file: {error}") from error
    columns = parquet.schema_arrow
    needed = {key, "doc_key", "doc_id", "tenant", "source", "labels", "metadata"}
    if lacking := sorted({*needed, OTHER_FIELDS} - set(columns.names)):
        raise InvalidInput(f"it lacks the columns {', '.join(lacking)}")
    if dimension is not None:
        _check_vectors(columns, dimension)
    if parquet.metadata.num_rows != rows:
        raise InvalidInput(f"it has {parquet.metadata.num_rows} rows and not {rows}")


def _check_vectors(columns: pa.Schema, dimension: int) -> None:
    if "vector" not in columns.names:
        raise InvalidInput("it lacks the column vector")
    vector = columns.field("vector").type
    if not pa.types.is_fixed_size_list(vector) or vector.list_size != dimension:
        raise InvalidInput(f"its vectors are {vector}, not of {dimension} dimensions")


def documents_dimension() -> int:
    """Return the dimension of the vectors that Milvus asks for of documents."""
    return len(schema.NO_VECTOR)


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _to_entity(row: dict[str, Any]) -> Entity:
    others: Entity = json.loads(row.pop(OTHER_FIELDS))
    known = {name: value for name, value in row.items() if value is not None}
    for name in JSON_COLUMNS:
        if isinstance(known.get(name), str):  # older collections have lists of their own
            known[name] = json.loads(known[name])
    return known | others
