"""Labelled page variants on disk: a folder of Parquet files that only ever grows."""

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import InvalidInput, NotFound

SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # of document, page, variant, seed, engine, version and truth
        ("document", pa.string()),  # the document's id: variants and pages of one stay together
        ("source", pa.string()),
        ("page", pa.int32()),
        ("variant", pa.int32()),  # 0 is the page as it is
        ("seed", pa.int64()),
        ("effects", pa.string()),  # JSON: [{"name": …, "severity": …}, …]
        ("engine", pa.string()),
        ("engine_version", pa.string()),
        ("languages", pa.string()),
        ("dpi", pa.int32()),
        ("truth", pa.string()),  # "transcript" or "text layer"
        ("truth_chars", pa.int32()),
        ("cer", pa.float32()),
        ("wer", pa.float32()),
        ("recall", pa.float32()),
        ("field_accuracy", pa.float32()),  # null without fields
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("ocr_s", pa.float32()),
        ("image", pa.binary()),  # PNG, exactly what the engine saw
    ]
)
TrainingRow = dict[str, Any]


class LabelStore:
    """The labels below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ids(self) -> set[str]:
        """Return the ids of all rows."""
        return {str(row["id"]) for row in self.rows(["id"])}

    def rows(self, columns: list[str] | None = None) -> Iterator[TrainingRow]:
        """Yield all rows, file by file. Raises InvalidInput for a file that holds no labels."""
        for file in sorted(self.folder.glob("*.parquet")):
            try:
                yield from pq.ParquetFile(file).read(columns=columns).to_pylist()
            except (pa.ArrowException, OSError) as error:
                raise InvalidInput(f"{file} holds no labels: {error}") from error

    def require(self) -> None:
        """Raises NotFound where there are no labels."""
        if not any(self.folder.glob("*.parquet")):
            raise NotFound(f"there are no labels in {self.folder}: quire quality label DIR")

    def add(self, rows: Iterable[TrainingRow]) -> None:
        """Add rows as one file, whole or not at all."""
        table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
        if not table.num_rows:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"labels-{uuid.uuid4().hex}.parquet"
        unfinished = self.folder / f".{name}"
        pq.write_table(table, unfinished, compression="zstd")
        unfinished.replace(self.folder / name)
