"""NPZ and Parquet of another program: vectors, ids, texts and paths of pictures, row by row."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa

from cluster.errors import InvalidInput
from jobs.vector_files.npy import Member, open_zip
from jobs.vector_files.parquet import numbered_batches, open_parquet, vectors_in
from jobs.vector_files.place import reading, shape_of

MAX_DIMENSION = 65_536
# What columns are called where nobody says: the first of these that is there.
VECTORS = ("vectors", "vector", "embeddings", "embedding")
IDS = ("ids", "id")
TEXTS = ("texts", "text")


@dataclass(frozen=True)
class ForeignColumns:
    """The names of columns (Parquet) or arrays (NPZ).

    Of an empty name the usual ones are looked for (VECTORS, IDS, TEXTS); without ids rows are
    numbered. `images` has paths beside the file.
    """

    vectors: str = ""
    ids: str = ""
    texts: str = ""
    images: str = ""


@dataclass(frozen=True)
class ForeignRow:
    """Row `number` (from 1): its own id, its vector [d], its text and the path of its picture."""

    number: int
    id: str
    vector: np.ndarray
    text: str
    image: str


class ForeignFile(Protocol):
    """An open file of another program."""

    rows: int

    def check_dimension(self, dimension: int) -> None:
        """Raise InvalidInput where the vectors have another number of dimensions."""
        ...

    def batches(self, batch_rows: int) -> Iterator[list[ForeignRow]]:
        """Yield the rows in order. Raises InvalidInput that names the row."""
        ...


@contextmanager
def open_foreign(url: str, columns: ForeignColumns) -> Iterator[ForeignFile]:
    """Open NPZ or Parquet by its name. Raises NotFound or InvalidInput."""
    opened = ForeignNpz if shape_of(url) == "npz" else ForeignParquet
    with reading(url) as file:
        yield opened(file, url, columns)


class ForeignNpz:
    """An NPZ file: one array for each column."""

    def __init__(self, file: IO[bytes], url: str, columns: ForeignColumns) -> None:
        opened = open_zip(file, url)
        names = [name.removesuffix(".npy") for name in opened.namelist()]
        chosen = _choose(names, url, columns)
        self._vectors = Member(opened, chosen.pop("vectors"), url, kinds="f", axes=2)
        self._columns = {
            column: Member(opened, name, url, kinds="iuUS" if column == "ids" else "US", axes=1)
            for column, name in chosen.items()
        }
        self.rows = self._vectors.shape[0]
        self._url = url
        for member in self._columns.values():
            if member.shape[0] != self.rows:
                raise InvalidInput(
                    f"{url}: {member.name} has {member.shape[0]} entries for {self.rows} vectors"
                )

    def check_dimension(self, dimension: int) -> None:
        """Raise InvalidInput where the vectors have another number of dimensions."""
        _check_dimension(self._url, self._vectors.shape[1], dimension)

    def batches(self, batch_rows: int) -> Iterator[list[ForeignRow]]:
        """Yield the rows in order. Raises InvalidInput that names the row."""
        names = list(self._columns)
        arrays = [self._columns[name].batches(batch_rows) for name in names]
        first = 1
        for vectors, *columns in zip(self._vectors.batches(batch_rows), *arrays, strict=True):
            rows = []
            for place, vector in enumerate(vectors):
                number = first + place
                cells = {
                    name: self._columns[name].text_at(array, place, number)
                    for name, array in zip(names, columns, strict=True)
                }
                rows.append(_row(number, vector, cells))
            yield rows
            first += len(vectors)


class ForeignParquet:
    """A Parquet file; only the columns that are asked for are read."""

    def __init__(self, file: IO[bytes], url: str, columns: ForeignColumns) -> None:
        self._file = open_parquet(file, url)
        names = self._file.schema_arrow.names
        self._chosen = _choose(names, url, columns)
        self.rows = int(self._file.metadata.num_rows)
        self._url = url
        self._dimension = 0
        for column, name in self._chosen.items():
            kind = self._file.schema_arrow.field(name).type
            is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
            is_id = column == "ids" and pa.types.is_integer(kind)
            if column != "vectors" and not is_text and not is_id:
                raise InvalidInput(f"{url}: {name} is {kind}, not text")

    def check_dimension(self, dimension: int) -> None:
        """Raise InvalidInput where the vectors have another number of dimensions.

        Lists of no fixed size are looked at row by row.
        """
        kind = self._file.schema_arrow.field(self._chosen["vectors"]).type
        if pa.types.is_fixed_size_list(kind):
            _check_dimension(self._url, kind.list_size, dimension)
        self._dimension = dimension

    def batches(self, batch_rows: int) -> Iterator[list[ForeignRow]]:
        """Yield the rows in order. Raises InvalidInput that names the row."""
        names = list(self._chosen.values())
        for first, batch in numbered_batches(self._file, batch_rows, names, self._url):
            yield self._rows(batch, first)

    def _rows(self, batch: pa.RecordBatch, first: int) -> list[ForeignRow]:
        column = batch.column(self._chosen["vectors"])
        vectors = vectors_in(column, self._dimension, first)
        texts = {
            name: batch.column(title).to_pylist()
            for name, title in self._chosen.items()
            if name != "vectors"
        }
        return [
            _row(first + place, vector, {name: texts[name][place] for name in texts})
            for place, vector in enumerate(vectors)
        ]


def _choose(names: list[str], url: str, columns: ForeignColumns) -> dict[str, str]:
    """Return the name of each column that there is. Raises InvalidInput for one that is missing."""
    usual: dict[str, tuple[str, ...]] = {"vectors": VECTORS, "ids": IDS, "texts": TEXTS}
    chosen = {}
    for column, name in asdict(columns).items():
        if name and name not in names:
            raise InvalidInput(f"{url} has no column {name!r}: it has {', '.join(names[:20])}")
        if name := name or next((each for each in usual.get(column, ()) if each in names), ""):
            chosen[column] = name
    if "vectors" not in chosen:
        raise InvalidInput(
            f"{url} has no vectors by a usual name: name --vector-column, one of "
            f"{', '.join(names[:20])}"
        )
    return chosen


def _check_dimension(url: str, found: int, dimension: int) -> None:
    if found != dimension:
        raise InvalidInput(
            f"{url}: its vectors have {found} dimensions, and the model that is declared gives "
            f"{dimension}: name another with --model, or --dimensions {found}"
        )


def _row(number: int, vector: np.ndarray, cells: dict[str, Any]) -> ForeignRow:
    row_id = cells.get("ids", number)
    if row_id is None:
        raise InvalidInput(f"row {number}: it has no id")
    text, image = cells.get("texts") or "", cells.get("images") or ""
    return ForeignRow(number, str(row_id), vector, text, image)
