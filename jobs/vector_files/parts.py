"""A folder, or an s3:// URL, of Parquet parts: whole once its manifest.json is there."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.errors import InvalidInput, NotFound
from cluster.sources import open_url
from jobs.vector_files.head import BATCH_ROWS, FileHead
from jobs.vector_files.parquet import ParquetVectorFile, ParquetVectorWriter
from jobs.vector_files.place import check_is_free, reading, writing
from jobs.vector_files.row import VectorRow

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 2**20
PART_ROWS = 100_000


class Part(BaseModel):
    """One file of the folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^part-\d{5,9}\.parquet$")]
    rows: Annotated[int, Field(ge=0)]


class PartsManifest(BaseModel):
    """Every file of the folder, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: tuple[Part, ...]


class PartsWriter:
    """Writes parts of up to `part_rows` rows, each whole or not at all, and a manifest last.

    Raises InvalidInput where anything is in the folder already.
    """

    def __init__(self, url: str, head: FileHead, part_rows: int = PART_ROWS) -> None:
        check_is_free(url)
        self._url, self._head, self._part_rows = url.rstrip("/"), head, part_rows
        self._parts: list[Part] = []
        self._open = ExitStack()
        self._writer: ParquetVectorWriter | None = None
        self._rows = 0  # of the part that is open

    def write(self, rows: Sequence[VectorRow]) -> None:
        """Write rows; a batch is never divided between parts."""
        if self._writer is not None and self._rows + len(rows) > self._part_rows:
            self._end_part()
        if self._writer is None:
            name = f"part-{len(self._parts) + 1:05d}.parquet"
            self._parts.append(Part(name=name, rows=0))
            file = self._open.enter_context(writing(f"{self._url}/{name}"))
            self._writer = ParquetVectorWriter(file, self._head)
        self._writer.write(rows)
        self._rows += len(rows)

    def close(self) -> None:
        """End the last part, and write the manifest."""
        if self._writer is None and not self._parts:
            self.write([])  # a part says what the fingerprint is, also of no row
        self._end_part()
        manifest = PartsManifest(parts=tuple(self._parts))
        with writing(f"{self._url}/{MANIFEST}") as file:
            file.write(manifest.model_dump_json(indent=1).encode())

    def abandon(self) -> None:
        """Leave the part that is open unwritten; called while an error is handled."""
        if self._writer is not None:
            self._writer.abandon()
        with suppress(BaseException):  # it raises what is handled
            self._open.__exit__(*sys.exc_info())

    def _end_part(self) -> None:
        if self._writer is None:
            return
        with self._open:
            self._writer.close()
        self._parts[-1] = Part(name=self._parts[-1].name, rows=self._rows)
        self._writer, self._rows = None, 0


class PartsFolder:
    """A folder of parts that is whole. Raises NotFound or InvalidInput."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._parts = read_manifest(self._url).parts
        if not self._parts:
            raise InvalidInput(f"the manifest of {url} names no part")
        with reading(f"{self._url}/{self._parts[0].name}") as file:
            self.head = ParquetVectorFile(file, self._parts[0].name).head
        self.rows = sum(part.rows for part in self._parts)

    def batches(self, batch_rows: int = BATCH_ROWS) -> Iterator[list[VectorRow]]:
        """Yield the rows of all parts in order, checked. Raises InvalidInput that names the row."""
        for part in self._parts:
            name = f"{self._url}/{part.name}"
            with reading(name) as file:
                opened = ParquetVectorFile(file, name)
                if (opened.head, opened.rows) != (self.head, part.rows):
                    raise InvalidInput(f"{name} is not what its manifest says: export it again")
                try:
                    yield from opened.batches(batch_rows)
                except InvalidInput as error:
                    raise InvalidInput(f"{part.name}: {error}") from error


def read_manifest(url: str) -> PartsManifest:
    """Read what parts a folder has. Raises NotFound or InvalidInput."""
    fs, path = open_url(url)
    if not fs.exists(path):
        raise NotFound(f"there is nothing at {url}")
    if not fs.exists(f"{path}/{MANIFEST}"):
        raise InvalidInput(
            f"{url} has no {MANIFEST}: its export was interrupted (export it again), or it is no "
            "folder of vectors; name one file with --foreign"
        )
    with reading(f"{url}/{MANIFEST}") as file:
        text = file.read(MAX_MANIFEST_BYTES)
    try:
        return PartsManifest.model_validate(json.loads(text))
    except (ValueError, ValidationError) as error:
        raise InvalidInput(f"the manifest of {url} cannot be used: {error}") from error
