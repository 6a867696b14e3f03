"""Rows with vectors as numpy's NPZ, member by member and a batch at a time; never a pickle.

Members: `ids` (str[n]), `vectors` (float32[n, d]), `meta` (bytes[n], a JSON object each, which
`json.loads` takes), `text` (uint8, every row's text as UTF-8 one after the other) with `text_ends`
(int64[n]), and `fingerprint` (a str). Texts are apart because an array of strings takes for each
row what its longest takes.
"""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import IO, Any

import numpy as np

from cluster.errors import InvalidInput
from jobs.vector_files.head import BATCH_ROWS, FileHead, not_ours, parse_fingerprint
from jobs.vector_files.npy import Member, open_zip, write_header
from jobs.vector_files.row import VectorRow, parse_facts, parse_json

COPY_BYTES = 2**20
MAX_META_BYTES = 256 * 1024  # of a row
MAX_TEXT_BYTES = 256 * 1024  # of a row


class NpzVectorWriter:
    """Writes one file of exactly `rows` rows: vectors at once, all else through files beside.

    Raises InvalidInput where rows have no vector, or where there are not so many of them.
    """

    def __init__(self, file: IO[bytes], head: FileHead, rows: int) -> None:
        self._head, self._expected, self._rows = head, rows, 0
        self._id_chars = self._meta_bytes = 1
        self._text_bytes = 0
        self._open = ExitStack()
        self._zip = self._open.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_STORED))
        self._spools = {
            name: self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it is closed so
            for name in ("ids", "meta", "text", "text_ends")
        }
        self._vectors = self._zip.open("vectors.npy", "w", force_zip64=True)
        write_header(self._vectors, np.dtype("<f4"), (rows, head.fingerprint.dimension))

    def write(self, rows: Sequence[VectorRow]) -> None:
        """Write rows."""
        vectors = [row.vector for row in rows if row.vector is not None]
        if len(vectors) < len(rows):
            raise InvalidInput(
                "chunks have no vectors here, and NPZ is of vectors: write the rows of pages "
                "(--rows pages), or Parquet"
            )
        self._rows += len(rows)
        if self._rows > self._expected:
            raise _changed(self._expected, self._rows)
        self._vectors.write(np.asarray(vectors, "<f4").tobytes())
        for row in rows:
            self._spool(row)

    def _spool(self, row: VectorRow) -> None:
        text = row.facts.text.encode(errors="replace")
        values = row.facts.model_dump(mode="json", exclude={"id", "text"})
        meta = json.dumps(values).encode()  # ASCII
        self._text_bytes += len(text)
        self._id_chars = max(self._id_chars, len(row.facts.id))
        self._meta_bytes = max(self._meta_bytes, len(meta))
        self._spools["ids"].write(row.facts.id.encode(errors="replace") + b"\n")
        self._spools["meta"].write(meta + b"\n")
        self._spools["text"].write(text)
        self._spools["text_ends"].write(np.int64(self._text_bytes).astype("<i8").tobytes())

    def close(self) -> None:
        """Write the other members, and what ends the file. Raises InvalidInput."""
        with self._open:
            self._vectors.close()
            if self._rows != self._expected:
                raise _changed(self._expected, self._rows)
            self._copy("text", np.dtype("u1"), self._text_bytes)
            self._copy("text_ends", np.dtype("<i8"), self._rows)
            self._pad("ids", np.dtype(f"<U{self._id_chars}"))
            self._pad("meta", np.dtype(f"S{self._meta_bytes}"))
            fingerprint = np.array(self._head.fingerprint.to_json())
            with self._zip.open("fingerprint.npy", "w") as member:
                np.lib.format.write_array(member, fingerprint, allow_pickle=False)

    def abandon(self) -> None:
        """Close what is open, of a file that is not wanted any more."""
        self._vectors.close()
        self._open.close()

    def _copy(self, name: str, dtype: np.dtype[Any], items: int) -> None:
        spool = self._spools[name]
        spool.seek(0)
        with self._zip.open(f"{name}.npy", "w", force_zip64=True) as member:
            write_header(member, dtype, (items,))
            shutil.copyfileobj(spool, member, COPY_BYTES)

    def _pad(self, name: str, dtype: np.dtype[Any]) -> None:
        """Write lines as an array of strings, each as long as the longest."""
        spool = self._spools[name]
        spool.seek(0)
        info = zipfile.ZipInfo(f"{name}.npy")
        info.compress_type = zipfile.ZIP_DEFLATED  # of padding nothing is left
        with self._zip.open(info, "w", force_zip64=True) as member:
            write_header(member, dtype, (self._rows,))
            for line in spool:
                text = line[:-1]
                item = text if dtype.kind == "S" else text.decode()
                member.write(np.array(item, dtype).tobytes())


class NpzVectorFile:
    """An open file of Quire's own. Raises InvalidInput where it is none."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._zip = open_zip(file, name)
        self._name = name
        if "fingerprint.npy" not in self._zip.namelist():
            raise not_ours(name)
        text = self._member("fingerprint", "U", 0).read_scalar()
        self.head = FileHead(parse_fingerprint(text, name))
        self._vectors = self._member("vectors", "f", 2)
        self.rows = self._vectors.shape[0]
        dimension = self.head.fingerprint.dimension
        if self._vectors.shape[1] != dimension:
            raise InvalidInput(
                f"{name}: its vectors have {self._vectors.shape[1]} dimensions, and its "
                f"fingerprint says {dimension}"
            )
        self._ids = self._member("ids", "U", 1)
        self._meta = self._member("meta", "S", 1)
        self._text = self._member("text", "u", 1)
        self._ends = self._member("text_ends", "i", 1)
        for member in (self._ids, self._meta, self._ends):
            if member.shape[0] != self.rows:
                raise InvalidInput(
                    f"{name}: {member.name} has {member.shape[0]} entries for {self.rows} vectors"
                )
        if self._meta.dtype.itemsize > MAX_META_BYTES or self._text.dtype.itemsize != 1:
            raise InvalidInput(f"{name}: entries of meta have at most {MAX_META_BYTES:,} bytes")

    def _member(self, name: str, kind: str, axes: int) -> Member:
        return Member(self._zip, name, self._name, kinds=kind, axes=axes)

    def batches(self, batch_rows: int = BATCH_ROWS) -> Iterator[list[VectorRow]]:
        """Yield the rows in order, checked. Raises InvalidInput that names the row."""
        arrays = zip(
            *(
                member.batches(batch_rows)
                for member in (self._ids, self._vectors, self._meta, self._ends)
            ),
            strict=True,
        )
        first, begin = 1, 0
        with self._text.open() as texts:
            for ids, vectors, meta, ends in arrays:
                checked = self.head.checked(vectors, range(first, first + len(vectors)))
                rows = []
                for place, vector in enumerate(checked):
                    number, end = first + place, int(ends[place])
                    if not 0 <= end - begin <= MAX_TEXT_BYTES or end > self._text.shape[0]:
                        raise InvalidInput(f"row {number}: its text ends at {end}: no such place")
                    text = texts.read(end - begin).decode(errors="replace")
                    values = parse_json(bytes(meta[place]), number, "meta")
                    if not isinstance(values, dict):
                        raise InvalidInput(f"row {number}: meta is no JSON object")
                    facts = {**values, "id": self._ids.text_at(ids, place, number), "text": text}
                    rows.append(VectorRow(parse_facts(facts, number), vector))
                    begin = end
                yield rows
                first += len(rows)


def _changed(expected: int, rows: int) -> InvalidInput:
    more = "more than " if rows > expected else ""
    count = expected if rows > expected else rows
    return InvalidInput(
        f"{expected:,} rows were counted and {more}{count:,} read, for something writes to the "
        "collection: stop that and run this again"
    )
