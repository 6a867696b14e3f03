"""The folder of parts beside a file that is being embedded: what is in it is not done again.

A part is a Parquet file of rows and, written before it, a JSON file of what failed and of counts.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.core import Fingerprint
from cluster.errors import FingerprintMismatch, InvalidInput
from jobs.vector_files.head import FileHead
from jobs.vector_files.parquet import ParquetVectorFile, ParquetVectorWriter
from jobs.vector_files.place import reading, writing
from jobs.vector_files.row import VectorRow
from jobs.vector_files.work import WorkItem


@dataclass
class SourceCounts:
    """What became of one source: rows, tokens and what failed."""

    rows: int = 0
    tokens: int = 0
    failed: int = 0

    def add(self, other: "SourceCounts") -> None:
        self.rows += other.rows
        self.tokens += other.tokens
        self.failed += other.failed


@dataclass
class Tally:
    """Counts by source, and why items failed, by their id."""

    sources: dict[str, SourceCounts] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def source(self, name: str) -> SourceCounts:
        return self.sources.setdefault(name, SourceCounts())

    def fail(self, item: WorkItem, why: str) -> None:
        if item.id not in self.failed:
            self.source(item.source).failed += 1
        self.failed[item.id] = why

    def add(self, other: "Tally") -> None:
        for name, counts in other.sources.items():
            self.source(name).add(counts)
        self.failed |= other.failed


class PartialFolder:
    """The parts that are done of one output file."""

    def __init__(self, out: Path, fingerprint: Fingerprint) -> None:
        """Look at what is there. Raises FingerprintMismatch where another model made it."""
        self.path = out.with_name(f"{out.name}.partial")
        self._head = FileHead(fingerprint)
        self.parts = 0
        self.rows = 0
        self.tally = Tally()
        while self._name(self.parts + 1, "parquet").is_file():
            self.parts += 1
            self._read_part()

    def _name(self, part: int, suffix: str) -> Path:
        return self.path / f"part-{part:05d}.{suffix}"

    def _read_part(self) -> None:
        path = self._name(self.parts, "parquet")
        with reading(str(path)) as file:
            opened = ParquetVectorFile(file, str(path))
        if opened.head != self._head:
            raise FingerprintMismatch(
                f"{self.path} holds vectors of {opened.head.fingerprint}; this command would add "
                f"those of {self._head.fingerprint}: use the same model and options, or remove it"
            )
        self.rows += opened.rows
        try:
            values = json.loads(self._name(self.parts, "json").read_text())
            sources = {name: SourceCounts(**each) for name, each in values["sources"].items()}
            self.tally.add(Tally(sources, values["failed"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{self.path} is damaged ({error}): remove it") from error

    def add(self, rows: Sequence[VectorRow], tally: Tally) -> None:
        """Write the next part. Raises FilesUnavailable."""
        number = self.parts + 1
        with writing(str(self._name(number, "json"))) as file:
            file.write(json.dumps(asdict(tally)).encode())
        with writing(str(self._name(number, "parquet"))) as file:
            writer = ParquetVectorWriter(file, self._head)
            writer.write(rows)
            writer.close()
        self.parts = number
        self.rows += len(rows)
        self.tally.add(tally)

    def batches(self) -> Iterator[list[VectorRow]]:
        """Yield the rows of all parts."""
        for number in range(1, self.parts + 1):
            path = str(self._name(number, "parquet"))
            with reading(path) as file:
                yield from ParquetVectorFile(file, path).batches()

    def skip_done(self, items: Iterable[WorkItem]) -> Iterator[WorkItem]:
        """Yield the items behind those that are done or failed before the last part ended.

        Raises InvalidInput where the items are not those that the parts are of.
        """
        left = iter(items)
        for row in (row for batch in self.batches() for row in batch):
            for item in left:
                if item.id == row.facts.id:
                    break
                if item.id not in self.tally.failed:
                    raise self._changed(item.id)
            else:
                raise self._changed(row.facts.id)
            if item.text is not None and item.text != row.facts.text:
                raise self._changed(item.id)
        yield from (item for item in left if item.id not in self.tally.failed)

    def _changed(self, item: str) -> InvalidInput:
        return InvalidInput(
            f"the input has changed at {item} since {self.path} was begun: remove that folder, and "
            "all is embedded from the beginning"
        )

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
