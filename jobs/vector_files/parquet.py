"""Rows with vectors as Parquet: one file, written and read a row group at a time."""

import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import InvalidInput
from jobs.vector_files.head import BATCH_ROWS, FileHead, not_ours, parse_fingerprint
from jobs.vector_files.row import VectorRow, parse_facts, parse_json

FINGERPRINT_KEY = b"quire.fingerprint"
CHUNK_VECTORS_KEY = b"quire.chunk_vectors"
MAX_GROUP_BYTES = 4 * 2**30  # of a row group, unpacked; it is read piece by piece
READ_BYTES = 2**20
JSON_COLUMNS = ("metadata", "readings")
FACTS: dict[str, pa.DataType] = {
    "id": pa.string(),
    "doc_id": pa.string(),
    "page": pa.int64(),
    "chunk": pa.int64(),
    "title": pa.string(),
    "source": pa.string(),
    "text": pa.string(),
    "tags": pa.list_(pa.string()),
    "metadata": pa.string(),
    "tenant": pa.string(),
    "sha256": pa.string(),
    "pages": pa.int64(),
    "time_ms": pa.int64(),
    "width_px": pa.int64(),
    "height_px": pa.int64(),
    "readings": pa.string(),
}


def columns_of(head: FileHead) -> pa.Schema:
    """Return the columns of a file, with what it says of all rows."""
    vector = pa.list_(pa.float32(), head.fingerprint.dimension)
    return pa.schema(
        [*FACTS.items(), ("vector", vector)],
        metadata={
            FINGERPRINT_KEY: head.fingerprint.to_json().encode(),
            CHUNK_VECTORS_KEY: b"on" if head.chunk_vectors else b"off",
        },
    )


class ParquetVectorWriter:
    """Writes one file; a row group for each batch of rows."""

    def __init__(self, file: IO[bytes], head: FileHead) -> None:
        self._columns = columns_of(head)
        self._writer = pq.ParquetWriter(file, self._columns, compression="zstd")

    def write(self, rows: Sequence[VectorRow]) -> None:
        """Write rows as a row group."""
        columns = {name: [_cell(name, row) for row in rows] for name in FACTS}
        arrays = [pa.array(columns[name], kind) for name, kind in FACTS.items()]
        arrays.append(_vectors_array(rows, self._columns.field("vector").type))
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._columns))

    def close(self) -> None:
        """Write what ends the file."""
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file, whose bytes nobody wants."""
        self._writer.close()


class ParquetVectorFile:
    """An open file of Quire's own. Raises InvalidInput where it is none."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = open_parquet(file, name), name
        columns = self._file.schema_arrow
        said = columns.metadata or {}
        if FINGERPRINT_KEY not in said:
            raise not_ours(name)
        fingerprint = parse_fingerprint(said[FINGERPRINT_KEY], name)
        self.head = FileHead(fingerprint, said.get(CHUNK_VECTORS_KEY) != b"off")
        self.rows = int(self._file.metadata.num_rows)
        for field in columns_of(self.head):
            found = columns.field(field.name) if field.name in columns.names else None
            if found is None or found.type != field.type:
                what = "lacks" if found is None else f"has as {found.type} and not {field.type}"
                raise InvalidInput(f"{name} {what} the column {field.name}: export it again")

    def batches(self, batch_rows: int = BATCH_ROWS) -> Iterator[list[VectorRow]]:
        """Yield the rows in order, checked. Raises InvalidInput that names the row."""
        for first, batch in numbered_batches(
            self._file, batch_rows, [*FACTS, "vector"], self._name
        ):
            yield _to_rows(batch, first, self.head)


def open_parquet(file: IO[bytes], name: str) -> pq.ParquetFile:
    """Open a Parquet file whose row groups can be held. Raises InvalidInput."""
    try:
        parquet = pq.ParquetFile(file, buffer_size=READ_BYTES)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"{name} is no Parquet file: {error}") from error
    sizes = (
        parquet.metadata.row_group(group).total_byte_size
        for group in range(parquet.metadata.num_row_groups)
    )
    if (largest := max(sizes, default=0)) > MAX_GROUP_BYTES:
        raise InvalidInput(
            f"{name} has a row group of {largest:,} bytes; the limit is {MAX_GROUP_BYTES:,}: write "
            "it with smaller row groups"
        )
    return parquet


def numbered_batches(
    file: pq.ParquetFile, batch_rows: int, columns: list[str], name: str
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield batches of rows, each with the number of its first row. Raises InvalidInput."""
    first = 1
    batches = file.iter_batches(batch_rows, columns=columns)
    while True:
        try:
            batch = next(batches, None)
            if batch is not None:
                batch.validate(full=True)  # texts are UTF-8, and lists lie where they say
        except (pa.ArrowException, OSError) as error:
            raise InvalidInput(f"{name} is damaged behind row {first - 1}: {error}") from error
        if batch is None:
            return
        yield first, batch
        first += batch.num_rows


def vectors_in(column: pa.Array, dimension: int, first: int) -> np.ndarray:
    """Return a column of lists of numbers as [n, dimension]; none of them may be null.

    `first`: the number of its first row. Raises InvalidInput that names the row.
    """
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if not is_list and not pa.types.is_fixed_size_list(column.type):
        raise InvalidInput(f"vectors are lists of numbers, not {column.type}")
    if not pa.types.is_floating(column.type.value_type):
        raise InvalidInput(f"vectors are of floating point, not of {column.type.value_type}")
    lengths = column.value_lengths() if is_list else None
    for place in range(len(column)):
        length = lengths[place].as_py() if lengths is not None else column.type.list_size
        if not column[place].is_valid or length != dimension:
            found = f"{length} dimensions" if column[place].is_valid else "no vector"
            raise InvalidInput(f"row {first + place}: it has {found}, not {dimension} dimensions")
    numbers = column.flatten()
    if numbers.null_count:
        place = int(np.argmax(np.asarray(numbers.is_null()))) // dimension
        raise InvalidInput(f"row {first + place}: its vector holds what is no finite number")
    return np.asarray(numbers).reshape(len(column), dimension)


def _cell(name: str, row: VectorRow) -> Any:
    value = getattr(row.facts, name)
    if name in JSON_COLUMNS:
        return json.dumps(value, ensure_ascii=False)
    return list(value) if name == "tags" else value


def _vectors_array(rows: Sequence[VectorRow], kind: pa.DataType) -> pa.Array:
    if all(row.vector is not None for row in rows):
        numbers = np.concatenate([np.asarray(row.vector, np.float32) for row in rows])
        return pa.FixedSizeListArray.from_arrays(pa.array(numbers), type=kind)
    return pa.array([row.vector for row in rows], kind)


def _to_rows(batch: pa.RecordBatch, first: int, head: FileHead) -> list[VectorRow]:
    """Return rows of a batch whose first has this number."""
    column = batch.column("vector")
    present = np.flatnonzero(np.asarray(column.is_valid()))
    vectors: list[np.ndarray | None] = [None] * batch.num_rows
    if len(present):
        dimension = column.type.list_size
        taken = column.take(pa.array(present)) if len(present) < len(column) else column
        numbers = [first + int(place) for place in present]
        checked = head.checked(vectors_in(taken, dimension, first), numbers)
        for filled, vector in zip(present, checked, strict=True):
            vectors[int(filled)] = vector
    rows = []
    for place, values in enumerate(batch.select(list(FACTS)).to_pylist()):
        number = first + place
        for name in JSON_COLUMNS:
            values[name] = parse_json(values[name] or "{}", number, name)
        rows.append(VectorRow(parse_facts(values, number), vectors[place]))
    return rows
