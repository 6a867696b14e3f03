"""Open a file of vectors by its name: NPZ, Parquet, or a folder of Parquet parts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jobs.vector_files.head import FileHead, VectorReader, VectorWriter
from jobs.vector_files.npz import NpzVectorFile, NpzVectorWriter
from jobs.vector_files.parquet import ParquetVectorFile, ParquetVectorWriter
from jobs.vector_files.parts import PART_ROWS, PartsFolder, PartsWriter
from jobs.vector_files.place import reading, shape_of, writing
from jobs.vector_files.row import VectorRow


class GroupedWriter:
    """Gathers rows, so that the file gets so many of them at a time."""

    def __init__(self, writer: VectorWriter, batch_rows: int) -> None:
        self._writer, self._batch_rows = writer, batch_rows
        self._rows: list[VectorRow] = []

    def write(self, rows: Sequence[VectorRow]) -> None:
        """Write rows once there are enough."""
        self._rows += rows
        while len(self._rows) >= self._batch_rows:
            self._writer.write(self._rows[: self._batch_rows])
            del self._rows[: self._batch_rows]

    def close(self) -> None:
        """Write those that are left."""
        if self._rows:
            self._writer.write(self._rows)


@contextmanager
def open_writer(
    url: str, head: FileHead, rows: int, *, batch_rows: int, part_rows: int = PART_ROWS
) -> Iterator[GroupedWriter]:
    """Yield what takes `rows` rows; the file is whole at the end, and else there is none.

    Of a folder, parts that were written stay, without a manifest. `batch_rows`: in a row group.
    Raises InvalidInput or FilesUnavailable.
    """
    shape = shape_of(url)
    if shape == "folder":
        yield from _grouped(PartsWriter(url, head, part_rows), batch_rows)
        return
    with writing(url) as file:
        is_npz = shape == "npz"
        writer = NpzVectorWriter(file, head, rows) if is_npz else ParquetVectorWriter(file, head)
        yield from _grouped(writer, batch_rows)


def _grouped(writer: VectorWriter, batch_rows: int) -> Iterator[GroupedWriter]:
    grouped = GroupedWriter(writer, batch_rows)
    try:
        yield grouped
        grouped.close()
        writer.close()
    except BaseException:
        writer.abandon()
        raise


@contextmanager
def open_reader(url: str) -> Iterator[VectorReader]:
    """Open a file of vectors of Quire's own. Raises NotFound or InvalidInput."""
    shape = shape_of(url)
    if shape == "folder":
        yield PartsFolder(url)
        return
    with reading(url) as file:
        yield NpzVectorFile(file, url) if shape == "npz" else ParquetVectorFile(file, url)
