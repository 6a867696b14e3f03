"""What a backup holds comes back as it was, and what is no whole backup is refused."""

import hashlib
import json
import tarfile
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cluster.core import Filter
from cluster.errors import FormatMismatch, InvalidInput, NotFound
from cluster.pages.files import PageFiles, PageKey
from cluster.settings import Settings
from cluster.sources import open_url
from cluster.store.milvus import MilvusStore, open_store
from jobs.backup.restore import restore_backup
from jobs.backup.write import make_backup
from jobs.collections.drop import drop_collection
from jobs.journal import Journal
from quire import app
from tests.jobs.backup.conftest import Original, change_manifest
from tests.support.collections import (
    UPLOAD,
    fill,
    hits_in,
    rows_in,
    settings_of,
    without_sources,
    without_text_scores,
)
from tests.support.paths import ROOT
from tests.support.s3 import S3Server
from tests.support.store import a_document, a_row, add, remove

pytestmark = pytest.mark.services

QUIRE_0_1 = ROOT / "tests" / "support" / "stores" / "quire-0.1.0.tar.gz"
Target = tuple[MilvusStore, Settings]


def quire(*arguments: object, expect: int = 0) -> Any:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == expect, done.output
    return done.output if expect else json.loads(done.stdout)


def test_a_restored_store_finds_what_the_original_does(original: Original, tmp_path: Path) -> None:
    folder = tmp_path / "restored"
    restored = quire("restore", original.backup, "--store", folder, "--json")
    assert restored["keys"] == "restored" and restored["jobs"] == 1
    counts = {"documents": 4, "pages": 6, "rows": 12, "page_files": 6, "uploads": 1}
    assert restored["collections"] == [
        {"collection": name, "source": name, **counts} for name in ("other", "quire")
    ]
    settings = settings_of(folder)
    with open_store(settings) as store:
        assert store.collections() == original.store.collections()
        for name in ("other", "quire"):
            ours, theirs = store.collection(name), original.store.collection(name)
            assert without_sources(hits_in(ours)) == without_sources(hits_in(theirs))
            for mine, other in zip(rows_in(ours), rows_in(theirs), strict=True):
                same = [row for row in other if "uploads" not in row["source"]]
                assert [row for row in mine if "uploads" not in row["source"]] == same
        (upload,) = [each for each in store.documents() if "uploads" in each.source]
        assert store.documents(source=upload.source) == [upload]
    assert upload.source.startswith(str(folder)) and Path(upload.source).read_bytes() == UPLOAD
    assert PageFiles.from_settings(settings).get("acme", upload.doc_id, 2) == b"copper pipe2"
    assert settings.keys_path.read_bytes() == original.settings.keys_path.read_bytes()
    assert settings.keys_path.stat().st_mode & 0o777 == 0o600
    (job,) = (journal := Journal(folder / "jobs")).jobs(journal.ids()).values()
    assert job.request.paths == (upload.source, "/else/b.pdf")


def test_a_backup_is_well_known_files_and_their_hashes(original: Original) -> None:
    manifest = json.loads((original.backup / "manifest.json").read_text())
    (_, quire_collection) = manifest["collections"]
    folder = original.backup / "collections" / "quire"
    (rows,), (pages,) = quire_collection["row_parts"], quire_collection["page_file_parts"]
    table = pq.read_table(folder / rows["name"])
    assert table.num_rows == 6 and {"row_id", "vector", "text"} <= set(table.column_names)
    (chunks,) = quire_collection["chunk_parts"]
    assert pq.read_table(folder / chunks["name"]).num_rows == 6
    with tarfile.open(folder / pages["name"]) as tar:
        assert len(tar.getnames()) == 6
    for part in (rows, chunks, pages):
        assert hashlib.sha256((folder / part["name"]).read_bytes()).hexdigest() == part["sha256"]
    assert (original.backup / "keys.json").stat().st_mode & 0o077 == 0
    assert not (original.backup / "unfinished.json").exists()


def test_what_is_there_is_not_overwritten(original: Original, target: Target) -> None:
    store, settings = target
    restore_backup(settings, str(original.backup), collection="quire")
    assert not settings.keys_path.exists()  # of a whole store only
    with pytest.raises(InvalidInput, match=r"'quire' already.*--as"):
        restore_backup(settings, str(original.backup))
    restored = quire(
        "restore", original.backup, "--collection", "quire", "--as", "again",
        "--store", settings.store, "--json",
    )  # fmt: skip
    assert restored["keys"] == "none"
    again = store.collection("again")
    assert without_sources(hits_in(again)) == without_sources(hits_in(store))
    (upload,) = [each for each in again.documents() if "uploads" in each.source]
    assert "/uploads/again/" in upload.source and Path(upload.source).read_bytes() == UPLOAD
    for document in again.documents():
        remove(again, document)
    restore_backup(settings, str(original.backup), collection="other", name="again")  # it is empty
    assert hits_in(again)
    settings.keys_path.write_text("[]")
    for name in ("again", "quire"):
        drop_collection(settings, name)
    assert restore_backup(settings, str(original.backup)).keys == "kept"
    assert settings.keys_path.read_text() == "[]"
    for name in ("other", "quire"):
        drop_collection(settings, name, force=True)  # a job of the backup waits


def test_names_of_what_is_restored(original: Original, target: Target) -> None:
    _, settings = target
    with pytest.raises(NotFound, match="no collection 'nowhere'"):
        restore_backup(settings, str(original.backup), collection="nowhere")
    with pytest.raises(InvalidInput, match="--as is the name of one"):
        restore_backup(settings, str(original.backup), name="one")
    with pytest.raises(InvalidInput, match="settings cannot be used"):
        restore_backup(settings, str(original.backup), collection="quire", name="../x")


def test_a_restoration_that_was_interrupted_begins_again(
    original: Original, target: Target
) -> None:
    store, settings = target

    def stop(step: str, done: int, total: int) -> None:
        if step.startswith("rows"):
            raise KeyboardInterrupt

    half = store.collection("half")
    restore = partial(
        restore_backup, settings, str(original.backup), collection="quire", name="half"
    )
    with pytest.raises(KeyboardInterrupt):
        restore(step=stop)
    with pytest.raises(InvalidInput, match=r"not whole.*quire restore"):
        half.documents()
    restore()
    assert without_sources(hits_in(half)) == without_sources(hits_in(original.store))
    drop_collection(settings, "half")


def test_parts_are_of_a_bounded_size(
    original: Original, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As is what is held in memory: larger files go through piece by piece."""
    large = original.store.collection("large")
    large.open_collection(original.store.fingerprint())  # type: ignore[arg-type]
    document = a_document(8, pages=3)
    add(large, *(a_row(document, page, text="large") for page in (1, 2, 3)))
    sizes = {1: 20_000, 2: 10, 3: 30_000}
    files = PageFiles(original.settings.page_images_url, "large")
    for page, size in sizes.items():
        files.put("", document.doc_id, page, bytes(size))
    monkeypatch.setattr("jobs.backup.folder.MAX_PART_BYTES", 15_000)
    for module in ("write", "restore"):
        monkeypatch.setattr(f"jobs.backup.{module}.MAX_BATCHED_BYTES", 25_000)
    manifest = make_backup(original.settings, str(tmp_path / "b"), collection="large")
    drop_collection(original.settings, "large")
    (collection,) = manifest.collections
    assert len(collection.page_file_parts) > 1
    restore_backup(target[1], str(tmp_path / "b"))
    copies = PageFiles(target[1].page_images_url, "large")
    assert {page: len(copies.get("", document.doc_id, page)) for page in sizes} == sizes
    drop_collection(target[1], "large")


def test_a_store_of_quire_0_1_is_backed_up_with_its_files(tmp_path: Path) -> None:
    with tarfile.open(QUIRE_0_1) as archive:
        archive.extractall(tmp_path, filter="data")
    older = settings_of(tmp_path / "store")
    make_backup(older, str(tmp_path / "b"))
    restored = settings_of(tmp_path / "restored")
    restore_backup(restored, str(tmp_path / "b"))
    with open_store(older) as first, open_store(restored) as second:
        assert second.documents() == first.documents()
        query = {"vector": None, "text": "seat tube", "mode": "text", "top_k": 5}
        hits = first.search(**query, wanted=Filter())  # type: ignore[arg-type]
        again = second.search(**query, wanted=Filter())  # type: ignore[arg-type]
        assert hits and without_text_scores(again) == without_text_scores(hits)
        files, copies = PageFiles.from_settings(older), PageFiles.from_settings(restored)
        assert not copies.has_former(first.documents()[0])
        for hit in hits:
            assert copies.get(*PageKey.of(hit)) == files.get(*PageKey.of(hit))


def test_a_backup_that_was_interrupted_is_none(original: Original, tmp_path: Path) -> None:
    def stop(step: str, done: int, total: int) -> None:
        if step.startswith("rows"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_backup(original.settings, str(tmp_path / "b"), step=stop)
    with pytest.raises(InvalidInput, match="incomplete"):
        restore_backup(settings_of(tmp_path / "s"), str(tmp_path / "b"))
    make_backup(original.settings, str(tmp_path / "b"), collection="quire")  # it begins again
    assert not (tmp_path / "b" / "collections" / "other").exists()
    assert not (tmp_path / "b" / "keys.json").exists()
    with pytest.raises(InvalidInput, match="already"):
        make_backup(original.settings, str(tmp_path / "b"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(InvalidInput, match="not empty"):
        make_backup(original.settings, str(tmp_path / "full"))
    with pytest.raises(NotFound, match="no backup"):
        restore_backup(settings_of(tmp_path / "s"), str(tmp_path / "full"))


def test_a_backup_waits_for_documents_that_are_being_indexed(
    original: Original, tmp_path: Path
) -> None:
    busy = original.store.collection("busy")
    busy.open_collection(original.store.fingerprint())  # type: ignore[arg-type]
    document = a_document(7, status="indexing")
    add(busy, a_row(document, text="soon"))
    where = ("--collection", "busy", "--store", original.settings.store, "--json")
    refusal = quire("backup", tmp_path / "b", *where, expect=2)
    assert "1 documents of 'busy' are being indexed" in refusal
    assert not (tmp_path / "b").exists()
    done = replace(document, status="indexed")
    timer = threading.Timer(2, busy.put_document, [done])
    timer.start()
    quire("backup", tmp_path / "b", "--wait", "60", *where)

    def write(step: str, done: int, total: int) -> None:
        busy.put_document(replace(document, status="indexed", title="Changed"))

    with pytest.raises(InvalidInput, match="changed meanwhile"):
        make_backup(original.settings, str(tmp_path / "c"), collection="busy", step=write)
    drop_collection(original.settings, "busy")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name", ["rows-00001.parquet", "documents-00001.parquet", "page-files-00001.tar"]
)
@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_damage_is_found_before_anything_is_written(
    copy_of_backup: Path, target: Target, name: str, damage: Any
) -> None:
    store, settings = target
    damage(copy_of_backup / "collections" / "quire" / name)
    with pytest.raises(InvalidInput, match=rf"quire/{name}"):
        restore_backup(settings, str(copy_of_backup))
    assert store.client.names() == []


def rewritten(backup: Path, name: str, data: bytes) -> None:
    """Replace a file of the collection `quire`, and its hash in the manifest."""
    manifest = json.loads((backup / "manifest.json").read_text())
    for part in (
        part
        for collection in manifest["collections"]
        if collection["name"] == "quire"
        for value in collection.values()
        if isinstance(value, list)
        for part in value
        if part["name"] == name
    ):
        part |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (backup / "manifest.json").write_text(json.dumps(manifest))
    (backup / "collections" / "quire" / name).write_bytes(data)


@pytest.mark.parametrize("name", ["../../../escaped", "0" * 12 + "/" + "0" * 32 + "/..", "/etc/x"])
def test_files_that_would_lie_elsewhere_are_refused(
    copy_of_backup: Path, target: Target, tmp_path: Path, name: str
) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    rewritten(copy_of_backup, "page-files-00001.tar", (tmp_path / "evil.tar").read_bytes())
    with pytest.raises(InvalidInput, match="no name of a file"):
        restore_backup(target[1], str(copy_of_backup))
    assert target[0].client.names() == []


def test_what_a_manifest_may_not_say(copy_of_backup: Path, target: Target, tmp_path: Path) -> None:
    store, settings = target
    manifest = json.loads((copy_of_backup / "manifest.json").read_text())

    def refused(match: str, error: type[Exception] = InvalidInput, **changes: object) -> None:
        change_manifest(copy_of_backup, **manifest | changes)
        with pytest.raises(error, match=match):
            restore_backup(settings, str(copy_of_backup))
        assert store.client.names() == []

    def with_first(**changes: object) -> list[Any]:
        first, *rest = manifest["collections"]
        return [first | changes, *rest]

    refused("newer Quire", FormatMismatch, format=3)
    refused("newer Quire", FormatMismatch, collections=with_first(format=99))
    refused("cannot be used", collections=with_first(name="../../elsewhere"))
    part = manifest["collections"][0]["row_parts"][0]
    parts = [part | {"name": "../../../rows-00001.parquet"}]
    refused("cannot be used", collections=with_first(row_parts=parts))
    refused("does not add up", collections=with_first(rows=13))
    parts = [part | {"entries": 7}]
    refused("6 rows and not 7", collections=with_first(rows=13, row_parts=parts))
    fingerprint = manifest["collections"][0]["fingerprint"] | {"dimension": 8}
    refused("not of 8 dimensions", collections=with_first(fingerprint=fingerprint))
    outside = tmp_path / "outside.parquet"
    rows = copy_of_backup / "collections" / "other" / part["name"]
    rows.rename(outside)
    rows.symlink_to(outside)
    refused("leads out of the backup")
    (copy_of_backup / "manifest.json").write_text("[1]")
    with pytest.raises(InvalidInput, match="manifest cannot be used"):
        restore_backup(settings, str(copy_of_backup))


def test_a_backup_at_s3_of_files_at_s3(
    milvus: MilvusStore, original: Original, tmp_path: Path, s3: S3Server
) -> None:
    at_s3 = s3.folder()
    where = {"page_images": f"{at_s3}/pages", "uploads": f"{at_s3}/up"}
    settings = original.settings.model_copy(update={**where, "collection": "cloud"})
    fill(milvus.collection("cloud"), settings)
    url = f"{at_s3}/backup"
    with s3.recorded() as recorded:
        manifest = make_backup(settings, url, collection="cloud")
    assert recorded.requests[-1].method in ("DELETE", "POST")  # of the mark, after the manifest
    assert manifest.collections[0].page_files == 6
    with pytest.raises(InvalidInput, match="already"):
        make_backup(settings, url, collection="cloud")
    restored = settings_of(tmp_path, "cloud", page_images=f"{at_s3}/pages2", uploads=f"{at_s3}/up2")
    restore_backup(restored, url)
    with open_store(restored) as store:
        assert without_sources(hits_in(store)) == without_sources(
            hits_in(milvus.collection("cloud"))
        )
        (upload,) = [each for each in store.documents() if "/up2/" in each.source]
    with fsspec.open(upload.source, "rb") as file:
        assert file.read() == UPLOAD
    assert PageFiles.from_settings(restored).get("acme", upload.doc_id, 2) == b"copper pipe2"
    fs, root = open_url(url)
    fs.rm_file(f"{root}/collections/cloud/uploads-00001.tar")
    with pytest.raises(InvalidInput, match="lacks"):
        restore_backup(restored, url, name="again")
    drop_collection(settings, "cloud", force=True)  # a job of the store waits
