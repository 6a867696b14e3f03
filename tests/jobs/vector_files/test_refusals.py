"""Files that are damaged, hostile or of something else are refused, by the row that is bad."""

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import InvalidInput, NotFound, QuireError
from jobs.vector_files import parquet
from jobs.vector_files.head import FileHead
from jobs.vector_files.open import open_reader, open_writer
from jobs.vector_files.row import RowFacts, VectorRow
from tests.support.store import FINGERPRINT, a_document, direction

NAMES = ("x.npz", "x.parquet")


def a_vector_row(number: int, vector: np.ndarray | None = None, **changes: Any) -> VectorRow:
    document = a_document(number)
    values = {
        "id": f"{document.doc_id}:1:0",
        "doc_id": document.doc_id,
        "sha256": document.sha256,
        "page": 1,
        "source": document.source,
        "text": f"text {number}",
    }
    facts = RowFacts.model_construct(**{**RowFacts(**values).model_dump(), **changes})
    return VectorRow(facts, direction(number) if vector is None else vector)


def write(path: Path, *rows: VectorRow) -> str:
    head = FileHead(FINGERPRINT)
    with open_writer(str(path), head, len(rows), batch_rows=2) as writer:
        writer.write(rows)
    return str(path)


def read(url: str, batch_rows: int = 2) -> list[VectorRow]:
    with open_reader(url) as reader:
        return [row for batch in reader.batches(batch_rows) for row in batch]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_what_is_written_is_read(tmp_path: Path, name: str, rows: int) -> None:
    written = [a_vector_row(number, text="語" * number) for number in range(rows)]
    again = read(write(tmp_path / name, *written))
    assert [row.facts for row in again] == [row.facts for row in written]
    for before, after in zip(written, again, strict=True):
        np.testing.assert_array_equal(before.vector, after.vector)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vector": np.array([np.inf, 0, 0, 0])}, "no finite number"),
        ({"vector": direction(0) * 1.01}, "length 1.01 and not 1"),
        ({"vector": direction(0) * 0}, "length 0 and not 1"),
        ({"doc_id": "../../etc"}, "doc_id"),
        ({"doc_id": "0" * 32}, "not the beginning of sha256"),
        ({"page": 0}, "page"),
        ({"chunk": -1}, "chunk"),
        ({"width_px": 2**40}, "width_px"),
        ({"title": "x" * 5000}, "title"),
        ({"tenant": "x" * 5000}, "tenant"),
        ({"tags": ("",)}, "tags"),
        ({"metadata": {"no key": 1}}, "metadata key"),
        ({"readings": {"Row-Id": 1}}, "readings"),
        ({"readings": {"expected_cer": "x"}}, "expected_cer"),
        ({"readings": {"expected_cer": 7.0}}, "expected_cer"),
        ({"readings": {"language": "x" * 5000}}, "readings"),
    ],
    ids=str,
)
def test_a_bad_row_is_named(
    tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    file = write(tmp_path / name, a_vector_row(0), a_vector_row(1), a_vector_row(2, **changes))
    with pytest.raises(InvalidInput, match=rf"row 3: .*{message}"):
        read(file)


@pytest.mark.parametrize("name", NAMES)
def test_lengths_that_are_nearly_one_are_mended(tmp_path: Path, name: str) -> None:
    (row,) = read(write(tmp_path / name, a_vector_row(0, vector=direction(0) * 1.0009)))
    assert row.vector is not None
    np.testing.assert_allclose(row.vector, direction(0), atol=1e-7)


def rewrite(file: str, name: str, data: bytes | None) -> str:
    """Write an NPZ with another member of that name, or without it."""
    with zipfile.ZipFile(file) as old:
        members = {each: old.read(each) for each in old.namelist()}
    members.pop(f"{name}.npy", None)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for each, content in members.items():
            new.writestr(each, content)
        if data is not None:
            new.writestr(f"{name}.npy", data)
    return file


def npy(array: Any, *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=allow_pickle)
    return file.getvalue()


def a_header(shape: tuple[int, ...], dtype: str, *, version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + size + text


@pytest.mark.parametrize(
    ("member", "data", "message"),
    [
        ("fingerprint", None, "--foreign"),
        ("fingerprint", npy("{}"), "fingerprint"),
        ("fingerprint", npy('{"dimension": "x"}'), "fingerprint"),
        ("vectors", None, "no array 'vectors'"),
        ("vectors", npy(np.zeros((2, 5), np.float32)), "5 dimensions"),
        ("vectors", a_header((10**15, 4), "<f4"), "bytes are there"),
        ("vectors", a_header((2, 10**12), "<f4"), "bytes are there"),
        ("vectors", a_header((2, 4), "|O"), "pickled"),
        ("vectors", b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 50_000, "no array of numpy"),
        ("vectors", b"nothing", "no array of numpy"),
        ("meta", npy(np.array([{}, {}], object), allow_pickle=True), "pickled"),
        ("meta", npy(np.array([b"{}"])), "1 entries for 2"),
        ("meta", npy(np.array([b"[1]", b"[2]"])), "row 1: meta is no JSON object"),
        ("meta", npy(np.array([b"{", b"{"])), "row 1: meta is no JSON"),
        ("meta", npy(np.array([b'{"row_id": 1}', b"{}"])), "row 1:"),
        ("meta", npy(np.array([b"[" * 100_000, b""])), "row 1: meta is no JSON"),
        ("ids", npy(np.array(["a\nb", "c"])), "row 1: id"),
        ("ids", a_header((2,), "<U0"), "rows of 0 bytes"),
        ("ids", a_header((2,), "<U1") + b"\xff" * 8, "what is no character"),
        ("text_ends", npy(np.array([5, 10**12])), "row 2: its text ends"),
        ("text_ends", npy(np.array([9, 2])), "row 2: its text ends"),
    ],
)
def test_an_npz_is_believed_only_where_it_fits(
    tmp_path: Path, member: str, data: bytes | None, message: str
) -> None:
    file = write(tmp_path / "x.npz", a_vector_row(0), a_vector_row(1))
    with pytest.raises(InvalidInput, match=message):
        read(rewrite(file, member, data))


def without(column: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.drop_columns([column])


def with_metadata(**changes: bytes) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.replace_schema_metadata(
        {f"quire.{name}".encode(): value for name, value in changes.items()}
    )


def as_lists(table: pa.Table) -> pa.Table:
    vectors = table.column("vector").to_pylist()
    place = table.column_names.index("vector")
    return table.set_column(place, "vector", pa.array(vectors, pa.list_(pa.float32())))


def with_null(column: str) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        kind, place = table.schema.field(column).type, table.column_names.index(column)
        return table.set_column(place, column, pa.array([None] * len(table), kind))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("vector"), "lacks the column vector"),
        (without("sha256"), "lacks the column sha256"),
        (as_lists, "column vector"),
        (with_metadata(), "--foreign"),
        (with_metadata(fingerprint=b"\xff"), "fingerprint"),
        (with_metadata(fingerprint=b"[" * 50_000), "fingerprint"),
        (with_metadata(fingerprint=b'"' + b"x" * 10**6), "fingerprint"),
        (with_null("doc_id"), "row 1: doc_id"),
        (with_null("text"), "row 1: text"),
    ],
)
def test_a_parquet_file_of_something_else(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    file = write(tmp_path / "x.parquet", a_vector_row(0), a_vector_row(1))
    pq.write_table(change(pq.read_table(file)), file)
    with pytest.raises(InvalidInput, match=message):
        read(file)


def test_row_groups_that_cannot_be_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "x.parquet", a_vector_row(0))
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 100)
    with pytest.raises(InvalidInput, match="row group"):
        read(file)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound, match="no file"):
        read(str(tmp_path / name))
    file = Path(write(tmp_path / name, *(a_vector_row(number) for number in range(200))))
    whole = file.read_bytes()
    for data in (b"", b"nothing", whole[: len(whole) // 2], whole[len(whole) // 2 :]):
        file.write_bytes(data)
        with pytest.raises(InvalidInput, match=name):
            read(str(file))
    for place in range(len(whole) // 10, len(whole), len(whole) // 10):
        file.write_bytes(whole[:place] + b"\xaa" * 40 + whole[place + 40 :])
        with suppress(QuireError):  # refused, and nothing else
            read(str(file))


def test_manifests_name_nothing_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    write(folder, a_vector_row(0), a_vector_row(1))
    manifest = folder / "manifest.json"
    with pytest.raises(NotFound):
        read(str(tmp_path / "y"))
    for parts, message in (
        ([{"name": "../x/part-00001.parquet", "rows": 2}], "manifest"),
        ([{"name": "part-00001.parquet", "rows": 3}], "not what its manifest says"),
        ([], "names no part"),
        ("x", "manifest"),
    ):
        manifest.write_text(json.dumps({"parts": parts}))
        with pytest.raises(InvalidInput, match=message):
            read(str(folder))
