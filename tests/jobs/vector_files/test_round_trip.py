"""What is exported and imported is found as before, in every format, and a batch at a time."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cluster.core import Filter, Fingerprint
from cluster.errors import FingerprintMismatch, InvalidInput
from cluster.settings import Settings
from cluster.store.deletion import begin_deletion
from cluster.store.milvus import MilvusStore
from jobs.forget import forget_documents
from jobs.vector_files import export
from jobs.vector_files.export import export_rows
from jobs.vector_files.load import import_file
from jobs.vector_files.open import open_reader
from jobs.vector_files.row import VectorRow
from quire import app
from tests.support.collections import hits_in
from tests.support.s3 import S3Server
from tests.support.store import FINGERPRINT, a_document, a_row, add, direction, remove

pytestmark = pytest.mark.services
NAMES = ("x.npz", "x.parquet", "x")


def exported(settings: Settings, out: Path | str, kind: Any = "all", **options: Any) -> str:
    export_rows(settings, str(out), kind=kind, **options)
    return str(out)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_brings_back_the_same_hits(
    first: Settings, second: Settings, milvus: MilvusStore, tmp_path: Path, name: str
) -> None:
    file = exported(first, tmp_path / name)
    counts = import_file(second, file)
    assert (counts.documents, counts.pages, counts.rows, counts.left) == (3, 6, 12, 0)
    found, again = milvus.collection("first"), milvus.collection("second")
    assert hits_in(again) == hits_in(found)
    before = {document.doc_id: document for document in found.documents()}
    for document in again.documents():
        marks = before[document.doc_id].marks
        assert replace(document, marks=marks, fingerprint="") == replace(
            before[document.doc_id], fingerprint=""
        )
        assert document.fingerprint == FINGERPRINT.to_json()
        columns = ("expected_cer", "ink_share")
        assert again.readings(document, columns) == found.readings(document, columns)
    assert import_file(second, file).rows == 12  # again: the same
    assert hits_in(again) == hits_in(found)
    document = again.documents()[0]
    assert forget_documents(second, doc_id=document.doc_id)[0].rows == 4


def test_numpy_reads_an_export(first: Settings, tmp_path: Path) -> None:
    with np.load(exported(first, tmp_path / "x.npz"), allow_pickle=False) as arrays:
        assert arrays["vectors"].dtype == np.float32 and arrays["vectors"].shape == (12, 4)
        assert len(set(arrays["ids"].tolist())) == 12
        metas = [json.loads(meta) for meta in arrays["meta"]]
        ends = arrays["text_ends"]
        texts = [part.tobytes().decode() for part in np.split(arrays["text"], ends[:-1])]
        assert Fingerprint.from_json(str(arrays["fingerprint"])) == FINGERPRINT
    assert {meta["metadata"]["share"] for meta in metas} == {0.1}
    assert "harbour crane page1" in texts


def test_a_parquet_file_has_a_row_group_for_each_batch(first: Settings, tmp_path: Path) -> None:
    batches: list[int] = []
    out = exported(
        first,
        tmp_path / "x.parquet",
        batch_rows=5,
        step=lambda _, done, total: batches.append(done),
    )
    file = pq.ParquetFile(out)
    groups = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    assert groups == [5, 5, 2]
    assert batches == [5, 6, 11, 12]  # chunks, then pages, never more than asked for
    assert file.schema_arrow.metadata[b"quire.fingerprint"].decode() == FINGERPRINT.to_json()
    table = file.read()
    assert table.column("vector").type.list_size == 4
    assert {len(text) > 0 for text in table.column("text").to_pylist()} == {True}
    with open_reader(out) as reader:
        assert [len(batch) for batch in reader.batches(4)] == [4, 4, 4]


def test_a_folder_has_parts_and_is_whole_with_its_manifest(
    first: Settings, second: Settings, tmp_path: Path
) -> None:
    out = exported(first, tmp_path / "x", batch_rows=4, part_rows=8)
    names = sorted(path.name for path in Path(out).iterdir())
    assert names == ["manifest.json", "part-00001.parquet", "part-00002.parquet"]
    assert import_file(second, out).rows == 12
    with pytest.raises(InvalidInput, match="there already"):
        exported(first, out)
    (Path(out) / "manifest.json").unlink()
    with pytest.raises(InvalidInput, match="interrupted"):
        import_file(second, out)


@pytest.mark.parametrize("name", NAMES)
def test_files_at_s3(first: Settings, second: Settings, s3: S3Server, name: str) -> None:
    out = exported(first, f"{s3.folder()}/{name}")
    assert import_file(second, out).rows == 12


def test_rows_and_filters_choose(first: Settings, second: Settings, tmp_path: Path) -> None:
    acme = str(tmp_path / "acme.parquet")
    assert export_rows(first, acme, wanted=Filter(tenant="acme")).rows == 4
    assert import_file(second, acme, tenant="beta").documents == 2
    beta = str(tmp_path / "beta.npz")
    assert export_rows(second, beta, kind="all", wanted=Filter(tenant="beta")).rows == 4
    one = str(tmp_path / "one.parquet")
    assert export_rows(first, one, kind="chunks", wanted=Filter(metadata={"n": 1})).rows == 2
    with pytest.raises(InvalidInput, match="--rows"):
        export_rows(first, str(tmp_path / "x.npz"), kind="lines")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_of_an_export_that_saw_rows_come(
    first: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for rows in (11, 13):
        monkeypatch.setattr(export, "count_stream", lambda *_, rows=rows: rows)
        with pytest.raises(InvalidInput, match="counted"):
            exported(first, tmp_path / f"{rows}" / name)
        left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
        assert "manifest.json" not in left and not any(path[:1] == "x" for path in left)


def test_an_export_waits_for_nobody(second: Settings, milvus: MilvusStore, tmp_path: Path) -> None:
    store = milvus.collection("second")
    store.open_collection(FINGERPRINT)
    add(store, a_row(a_document(status="indexing")))
    with pytest.raises(InvalidInput, match="being indexed"):
        exported(second, tmp_path / "x.npz")


def test_chunks_without_vectors(second: Settings, milvus: MilvusStore, tmp_path: Path) -> None:
    store = milvus.collection("second")
    store.open_collection(FINGERPRINT, chunk_vectors=False)
    document = a_document()
    add(store, a_row(document, text="a page"), a_row(document, chunk=1, text="a chunk"))
    with pytest.raises(InvalidInput, match="--rows pages"):
        exported(second, tmp_path / "x.npz")
    file = exported(second, tmp_path / "x.parquet")
    other = replace_collection(second, "second_b")
    assert import_file(other, file).rows == 2
    stored = milvus.collection("second_b").stored()
    assert stored is not None and not stored.chunk_vectors
    with_all = replace_collection(second, "second_c")
    milvus.collection("second_c").open_collection(FINGERPRINT)
    with pytest.raises(InvalidInput, match="row 1: it has no vector"):
        import_file(with_all, file)


def replace_collection(settings: Settings, name: str) -> Settings:
    return settings.model_copy(update={"collection": name})


def test_another_fingerprint_is_refused(
    first: Settings, second: Settings, milvus: MilvusStore, tmp_path: Path
) -> None:
    file = exported(first, tmp_path / "x.npz")
    milvus.collection("second").open_collection(replace(FINGERPRINT, model="model-b"))
    with pytest.raises(FingerprintMismatch, match="model-a"):
        import_file(second, file)


def test_documents_that_others_have_stay_untouched(
    first: Settings, second: Settings, milvus: MilvusStore, tmp_path: Path
) -> None:
    file = exported(first, tmp_path / "x.parquet")
    store, documents = milvus.collection("second"), milvus.collection("first").documents()
    store.open_collection(FINGERPRINT)
    begin_deletion(store, documents[0])
    store.put_document(replace(documents[1], status="indexing"))
    counts = import_file(second, file)
    assert (counts.documents, counts.rows, counts.left) == (1, 4, 8)
    by_id = {document.doc_id: document.status for document in store.documents()}
    assert by_id[documents[0].doc_id] == "deleting"
    assert by_id[documents[1].doc_id] == "indexing"
    assert store.count_pages() == 2


def test_what_is_deleted_meanwhile_stays_deleted(
    first: Settings, second: Settings, milvus: MilvusStore, tmp_path: Path
) -> None:
    file = exported(first, tmp_path / "x.parquet")
    store = milvus.collection("second")
    gone = milvus.collection("first").documents()[0]

    def delete(step: str, done: int, total: int) -> None:
        if step == "rows" and done == 6:  # all chunks are written, no page is
            remove(store, gone)

    assert import_file(second, file, batch_rows=6, step=delete).documents == 2
    assert gone.doc_id not in {document.doc_id for document in store.documents()}
    assert not store.count_pages(Filter.of(gone))


def test_an_import_that_was_interrupted_goes_on(
    first: Settings, second: Settings, milvus: MilvusStore, tmp_path: Path
) -> None:
    file = exported(first, tmp_path / "x.npz")

    def stop(step: str, done: int, total: int) -> None:
        if step == "rows":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_file(second, file, batch_rows=5, step=stop)
    assert {each.status for each in milvus.collection("second").documents()} == {"indexing"}
    assert import_file(second, file).documents == 3
    assert {each.status for each in milvus.collection("second").documents()} == {"indexed"}


def test_facts_that_are_there_stay(
    first: Settings, second: Settings, milvus: MilvusStore, tmp_path: Path
) -> None:
    file = exported(first, tmp_path / "x.npz")
    store, known = milvus.collection("second"), milvus.collection("first").documents()[0]
    store.open_collection(FINGERPRINT)
    add(store, *(a_row(replace(known, title="Mine", tags=("mine",)), page) for page in (1, 2)))
    import_file(second, file)
    document = store.document(known.tenant, known.doc_id)
    assert document is not None and (document.title, document.tags) == ("Mine", ("mine",))
    assert store.count_pages(Filter(tags=("mine",))) == 2


def test_vectors_of_int8_are_exported_at_unit_length(tmp_path: Path) -> None:
    row = VectorRow.of(replace(a_row(a_document()), vector=(direction(30) * 0.9).tolist()))
    assert row.vector is not None
    np.testing.assert_allclose(row.vector, direction(30), atol=1e-6)


def test_the_command_says_what_came_in_and_what_was_left(
    first: Settings, second: Settings, milvus: MilvusStore, tmp_path: Path
) -> None:
    file = exported(first, tmp_path / "x.npz")
    store = milvus.collection("second")
    store.open_collection(FINGERPRINT)
    store.put_document(replace(milvus.collection("first").documents()[0], status="indexing"))
    done = CliRunner().invoke(
        app, ["import", file, "--store", second.store, "--collection", "second"]
    )
    assert done.exit_code == 0, done.output
    assert "2 documents, 4 pages, 8 rows in second; 4 rows left" in done.stdout
