"""Rows of JSON lines, CSV, TSV and Parquet files, each with the place that an error names."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import InvalidInput, NotFound, TooLarge

MAX_LINE_CHARS = 2**20
BATCH_ROWS = 1024  # of Parquet


@dataclass(frozen=True)
class FileRow:
    """One row; columns are lower-case, with `-` for `_`, so that `_id`, `id` and `ID` are one."""

    place: str  # "questions.jsonl, line 3"
    values: dict[str, Any]

    def first(self, *columns: str) -> Any:
        """Return the first of these columns that has a value, or None."""
        values = (self.values.get(column) for column in columns)
        return next((value for value in values if value is not None and value != ""), None)

    def text(self, *columns: str) -> str:
        """Return the first of these columns as text, "" where none has any. Raises InvalidInput."""
        value = self.first(*columns)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.error(f"{' or '.join(columns)} is to be text, not {str(value)[:80]}")
        return str(value).strip()

    def error(self, message: str) -> InvalidInput:
        return InvalidInput(f"{self.place}: {message}")


def read_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[FileRow]:
    """Yield the rows of a file by its suffix; of Parquet only `columns`, where any are given.

    Raises NotFound, and InvalidInput that names file and line.
    """
    readers: dict[str, Callable[[Path], Iterator[FileRow]]] = {
        ".jsonl": _json_lines,
        ".csv": lambda file: _table(file, ","),
        ".tsv": lambda file: _table(file, "\t"),
        ".parquet": lambda file: _parquet(file, columns),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(f"{path} is none of {', '.join(readers)}: convert it to one of them")
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8: save it as UTF-8") from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (place, line) of a text file, empty lines left out. Raises TooLarge."""
    with path.open(encoding="utf-8-sig") as file:
        for number in range(1, 2**63):
            line = file.readline(MAX_LINE_CHARS)
            if not line:
                return
            place = f"{path.name}, line {number}"
            if len(line) == MAX_LINE_CHARS and not line.endswith("\n"):
                raise TooLarge(f"{place}: longer than {MAX_LINE_CHARS:,} characters")
            if line.strip():
                yield place, line


def _json_lines(path: Path) -> Iterator[FileRow]:
    for place, line in read_lines(path):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{place}: no JSON: {error}") from error
        if not isinstance(values, dict):
            raise InvalidInput(f'{place}: write a JSON object, such as {{"question": …}}')
        yield _row(place, values)


def _table(path: Path, delimiter: str) -> Iterator[FileRow]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(
            file,
            delimiter=delimiter,
            quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
            strict=True,
        )
        try:
            for values in reader:
                place = f"{path.name}, line {reader.line_num}"
                if None in values:
                    raise InvalidInput(f"{place}: more values than the first line has columns")
                yield _row(place, values)
        except csv.Error as error:
            raise InvalidInput(f"{path.name}, line {reader.line_num}: {error}") from error


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[FileRow]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [name for name in names if not columns or column_name(name) in columns]
            number = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
                for values in batch.to_pylist():
                    number += 1
                    yield _row(f"{path.name}, row {number}", values)
    except pyarrow.ArrowException as error:
        raise InvalidInput(f"{path} cannot be read as Parquet: {error}") from error


def _row(place: str, values: dict[str, Any]) -> FileRow:
    return FileRow(place, {column_name(name): value for name, value in values.items()})


def column_name(name: str) -> str:
    """Return a column's name as rows have it."""
    return name.strip().lower().replace("_", "-").strip("-")
