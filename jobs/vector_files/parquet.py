"""Vectors as Parquet: a column for each fact of a row, the fingerprint in the file's metadata."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core import Fingerprint
from cluster.store.vector_rows import VectorRow

FINGERPRINT = b"quire.fingerprint"  # of the file's metadata: JSON


def parquet_schema(fingerprint: Fingerprint) -> pa.Schema:
    """Return the columns of a file of vectors."""
    texts = [(name, pa.string()) for name in ("title", "source", "tenant")]
    columns = [
        ("id", pa.string()),
        ("doc_id", pa.string()),
        ("page", pa.int32()),
        ("chunk", pa.int32()),
        *texts,
        ("tags", pa.list_(pa.string())),
        ("metadata", pa.string()),  # JSON: each document may have other keys
        ("text", pa.string()),
        ("vector", pa.list_(pa.float32(), fingerprint.dimension)),
    ]
    return pa.schema(columns, metadata={FINGERPRINT: fingerprint.to_json().encode()})


class ParquetVectors:
    """Writes rows into a Parquet file, a group of rows for each batch."""

    def __init__(self, path: Path, fingerprint: Fingerprint, rows: int) -> None:
        self._schema = parquet_schema(fingerprint)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[VectorRow]) -> None:
        columns = [
            {
                **vars(row),
                "id": row.id,
                "tags": list(row.tags),
                "metadata": json.dumps(row.metadata, ensure_ascii=False),
            }
            for row in rows
        ]
        self._writer.write_batch(pa.RecordBatch.from_pylist(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()
