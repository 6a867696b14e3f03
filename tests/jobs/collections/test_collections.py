"""Collections are copied, renamed and dropped whole, also where that is interrupted."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner

from cluster.errors import InvalidInput, NotFound
from cluster.pages.files import PageFiles
from cluster.settings import Settings
from cluster.store.deletion import tenant_mark
from cluster.store.milvus import MilvusStore, open_store
from jobs.collections.copy import copy_collection, rename_collection
from jobs.collections.drop import drop_collection
from jobs.collections.files import CollectionFiles
from jobs.journal import JobRequest, Journal
from quire import app
from tests.support.collections import (
    UPLOAD,
    fill,
    hits_in,
    rows_in,
    settings_of,
    without_sources,
)
from tests.support.jobs import an_id
from tests.support.s3 import S3Server
from tests.support.store import a_document, a_row, add, remove

pytestmark = pytest.mark.services

FILES = "jobs.collections.files.CollectionFiles"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("collections")


@pytest.fixture(scope="module")
def milvus(folder: Path) -> Iterator[MilvusStore]:
    with open_store(settings_of(folder)) as store:
        yield store


@pytest.fixture
def settings(folder: Path, milvus: MilvusStore) -> Iterator[Settings]:
    """Settings of a filled collection, `first`; every collection is gone afterwards."""
    settings = settings_of(folder, "first")
    fill(milvus.collection("first"), settings)
    yield settings
    for name in ("first", "second"):
        for part in {other for other in milvus.client.names() if other.startswith(name)}:
            milvus.client.drop(part)
        CollectionFiles(settings, name).remove_all()


def quire(settings: Settings, *arguments: str, expect: int = 0, **options: Any) -> str:
    done = CliRunner().invoke(app, [*arguments, "--store", settings.store], **options)
    assert done.exit_code == expect, done.output
    return done.stdout if expect == 0 else done.output


def stop_at(step: str) -> Any:
    def stop(at: str, done: int, total: int) -> None:
        if at == step:
            raise KeyboardInterrupt

    return stop


def test_a_copy_has_every_row_and_file(settings: Settings, milvus: MilvusStore) -> None:
    first, second = milvus.collection("first"), milvus.collection("second")
    hits = hits_in(first)
    answer = json.loads(quire(settings, "collections", "copy", "first", "second", "--json"))
    assert answer == {
        "collection": "second", "source": "first", "documents": 4, "rows": 12, "files": 7
    }  # fmt: skip
    assert without_sources(hits_in(second)) == without_sources(hits)
    assert second.fingerprint() == first.fingerprint()
    assert tenant_mark(second, "gone") == tenant_mark(first, "gone") != ""
    (documents, rows), (copies, copied_rows) = rows_in(first), rows_in(second)
    for mine, theirs in ((copies, documents), (copied_rows, rows)):
        same = [row for row in theirs if "uploads" not in row["source"]]
        assert [row for row in mine if "uploads" not in row["source"]] == same
    assert len(copies) == len(documents) == 4 and len(copied_rows) == len(rows) == 12
    (upload,) = [each for each in second.documents() if "uploads" in each.source]
    assert "/uploads/second/" in upload.source and Path(upload.source).read_bytes() == UPLOAD
    assert second.documents(source=upload.source) == [upload]  # its label went along
    files = PageFiles.from_settings(settings_of(Path(settings.store), "second"))
    assert files.get("acme", upload.doc_id, 2) == b"copper pipe2"
    drop_collection(settings, "first")  # neither has anything of the other
    assert files.get("acme", upload.doc_id, 2) == b"copper pipe2"
    assert Path(upload.source).read_bytes() == UPLOAD
    assert without_sources(hits_in(second)) == without_sources(hits)


@pytest.mark.parametrize("step", ["files of documents", "rows"])
@pytest.mark.parametrize("job", [copy_collection, rename_collection])
def test_an_interrupted_copy_is_no_collection_until_it_is_run_again(
    settings: Settings, milvus: MilvusStore, job: Any, step: str
) -> None:
    first, second = milvus.collection("first"), milvus.collection("second")
    hits = hits_in(first)
    with pytest.raises(KeyboardInterrupt):
        job(settings, "first", "second", stop_at(step))
    assert hits_in(first) == hits
    assert set(milvus.collections()) == {"first"}
    with pytest.raises(InvalidInput, match=r"is not whole.*again"):
        hits_in(second)
    assert "is not whole" in quire(settings, "collections", "list", "--json")
    gone = a_document(0)
    remove(first, gone)  # between two tries
    CollectionFiles(settings, "first").pages.forget(gone)
    copied = job(settings, "first", "second")
    assert (copied.documents, copied.rows, copied.files) == (3, 8, 5)
    kept = [hit for hit in without_sources(hits) if hit.doc_id != gone.doc_id]
    assert {hit.page_id for hit in hits_in(second)} == {hit.page_id for hit in kept}
    assert not CollectionFiles(settings, "second").pages.has("", gone.doc_id, 1)


def test_a_renamed_collection_has_one_name(settings: Settings, milvus: MilvusStore) -> None:
    hits = hits_in(milvus.collection("first"))
    quire(settings, "collections", "rename", "first", "second")
    assert set(milvus.collections()) == {"second"}
    assert without_sources(hits_in(milvus.collection("second"))) == without_sources(hits)
    assert CollectionFiles(settings, "first").count() == 0
    with pytest.raises(NotFound):
        rename_collection(settings, "first", "second")


@pytest.mark.parametrize("remains", ["mark", "files"])
def test_a_renaming_that_was_interrupted_at_its_end_is_ended(
    settings: Settings, milvus: MilvusStore, monkeypatch: pytest.MonkeyPatch, remains: str
) -> None:
    hits = hits_in(milvus.collection("first"))
    where = "jobs.collections.copy.remove_mark" if remains == "mark" else f"{FILES}.remove_all"
    with monkeypatch.context() as patch:
        patch.setattr(where, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rename_collection(settings, "first", "second")
    second = milvus.collection("second")
    assert without_sources(hits_in(second)) == without_sources(hits)
    rename_collection(settings, "first", "second")
    assert set(milvus.collections()) == {"second"}
    assert CollectionFiles(settings, "first").count() == 0
    assert not [name for name in milvus.client.names() if name.startswith("first")]


def test_what_is_written_meanwhile_makes_no_copy(settings: Settings, milvus: MilvusStore) -> None:
    first = milvus.collection("first")

    def write(step: str, done: int, total: int) -> None:
        add(first, a_row(a_document(9), text="late"))

    with pytest.raises(InvalidInput, match="changed meanwhile"):
        rename_collection(settings, "first", "second", write)
    assert set(milvus.collections()) == {"first"}
    first.put_document(replace(a_document(9), status="indexing"))
    for job in (copy_collection, rename_collection):
        with pytest.raises(InvalidInput, match="1 documents of 'first' are being indexed"):
            job(settings, "first", "second")


def test_names_that_cannot_be_taken(settings: Settings, milvus: MilvusStore) -> None:
    for target, words in (("first", "name of both"), ("a-b", "settings cannot be used")):
        with pytest.raises(InvalidInput, match=words):
            copy_collection(settings, "first", target)
    with pytest.raises(NotFound, match="nowhere"):
        copy_collection(settings, "nowhere", "second")
    copy_collection(settings, "first", "second")
    with pytest.raises(InvalidInput, match="already"):
        rename_collection(settings, "first", "second")


def test_a_collection_is_dropped_once_it_was_confirmed(
    settings: Settings, milvus: MilvusStore
) -> None:
    refused = quire(settings, "collections", "drop", "first", input="n\n", expect=1)
    assert "3 documents, 6 pages, 7 files" in refused
    assert set(milvus.collections()) == {"first"}
    quire(settings, "collections", "drop", "first", input="y\n")
    assert milvus.collections() == {} and CollectionFiles(settings, "first").count() == 0
    assert "no collection" in quire(settings, "collections", "drop", "first", "--yes", expect=2)


def test_what_is_in_use_is_dropped_by_force_only(settings: Settings, milvus: MilvusStore) -> None:
    first = milvus.collection("first")
    (upload,) = [each for each in first.documents() if "uploads" in each.source]
    journal = Journal(settings.data_dir / "jobs")
    job = journal.new(an_id(), JobRequest("ingest", "acme", (upload.source,)))
    assert "1 jobs of the service" in quire(
        settings, "collections", "drop", "first", "--yes", expect=2
    )
    with pytest.raises(InvalidInput, match="1 jobs"):
        rename_collection(settings, "first", "second")
    journal.save(job.changed(status="cancelled"))
    reindex = JobRequest("reindex", "", ("/library/0.pdf",), collection="first")
    job = journal.new(an_id(), reindex)
    with pytest.raises(InvalidInput, match="1 jobs"):
        drop_collection(settings, "first")
    journal.save(job.changed(status="succeeded"))
    first.put_document(replace(upload, status="indexing"))
    assert "--force" in quire(settings, "collections", "drop", "first", "--yes", expect=2)
    quire(settings, "collections", "drop", "first", "--yes", "--force")
    assert milvus.collections() == {}


def test_a_collection_that_is_renamed_is_not_dropped(
    settings: Settings, milvus: MilvusStore
) -> None:
    with pytest.raises(KeyboardInterrupt):
        rename_collection(settings, "first", "second", stop_at("rows"))
    with pytest.raises(InvalidInput, match="is being renamed"):
        drop_collection(settings, "first")
    quire(settings, "collections", "drop", "second", "--yes")  # half a collection can go
    assert set(milvus.collections()) == {"first"}
    assert CollectionFiles(settings, "second").count() == 0
    drop_collection(settings, "first")


def test_copies_at_s3(folder: Path, milvus: MilvusStore, s3: S3Server) -> None:
    name = s3.folder()
    settings = settings_of(folder, "first", page_images=f"{name}/pages", uploads=f"{name}/up")
    fill(milvus.collection("first"), settings)
    renamed = rename_collection(settings, "first", "second")
    assert renamed.files == 7 and CollectionFiles(settings, "first").count() == 0
    (upload,) = [each for each in milvus.collection("second").documents() if "/up/" in each.source]
    with fsspec.open(upload.source, "rb") as file:
        assert file.read() == UPLOAD
    drop_collection(settings, "second")
    assert CollectionFiles(settings, "second").count() == 0
