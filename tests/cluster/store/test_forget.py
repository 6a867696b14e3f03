"""Tenants that are apart, and what is forgotten or trimmed."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.pages.files import PageFiles
from cluster.settings import load_settings
from cluster.store.milvus import MilvusStore
from jobs.forget import Forgetter
from tests.support.store import a_document, a_row, add, remove, search


def test_tenants_with_the_same_bytes_are_apart(store: MilvusStore) -> None:
    ours, theirs = a_document(tenant="ours"), a_document(tenant="theirs")
    for document in (ours, theirs):
        add(store, a_row(document, text=f"secret of {document.tenant}"))
    assert {hit.tenant for hit in search(store, "secret", "hybrid")} == {"ours", "theirs"}
    assert remove(store, ours) == 1
    assert store.document("ours", ours.doc_id) is None
    assert store.document("theirs", theirs.doc_id) == theirs
    assert [hit.tenant for hit in search(store, "secret", "hybrid")] == ["theirs"]


def test_forgotten_rows_are_gone_at_once(store: MilvusStore) -> None:
    kept, gone = a_document(1), a_document(2)
    for document in (kept, gone):
        add(store, *(a_row(document, page, chunk, "x") for page in (1, 2) for chunk in (0, 1)))
    assert remove(store, gone) == 4
    for mode in ("dense", "text", "hybrid"):
        assert {hit.doc_id for hit in search(store, "x", mode)} == {kept.doc_id}
    assert store.documents() == [kept]
    assert store.pages_present(gone) == set()
    assert store.count_pages() == 2
    assert remove(store, gone) == 0


def test_pages_are_trimmed_to_the_rows_they_have(store: MilvusStore) -> None:
    ours, theirs = a_document(tenant="ours"), a_document(tenant="theirs")
    for document in (ours, theirs):
        rows = [(page, chunk) for page in (1, 2, 3, 12) for chunk in range(4)]
        add(store, *(a_row(document, *row, text=f"word{row[0]}x{row[1]}") for row in rows))
    store.trim_pages(ours, {})
    store.trim_pages(ours, {1: 2, 2: 0, 12: 2})
    store.trim_pages(ours, {1: 2, 2: 0, 12: 9})  # nothing is left to do
    for page, chunk in ((1, 1), (3, 3), (12, 1)):
        assert len(search(store, f"word{page}x{chunk}", "text")) == 2
    for page, chunk in ((1, 2), (1, 3), (2, 0), (2, 3), (12, 2)):
        (hit,) = search(store, f"word{page}x{chunk}", "text")
        assert hit.tenant == "theirs"
    assert store.pages_present(ours) == {1, 3, 12}
    assert remove(store, ours) == 2 + 4 + 2
    assert remove(store, theirs) == 16


def test_a_removal_that_failed_can_be_repeated(store: MilvusStore, tmp_path: Path) -> None:
    document = a_document()
    add(store, a_row(document, text="word"))
    settings = load_settings(store=str(tmp_path), collection=store.name)
    images = PageFiles.from_settings(settings)
    images.put(document.tenant, document.doc_id, 1, b"jpeg")
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(PageFiles, "forget", refuse)
        with pytest.raises(PermissionError):
            Forgetter(settings, store).forget(document)
    assert search(store, "word", "hybrid") == []
    half = store.document(document.tenant, document.doc_id)
    assert half == replace(document, status="deleting")
    assert Forgetter(settings, store).forget(half).images == 1
    assert store.document(document.tenant, document.doc_id) is None


def refuse(*_: object) -> int:
    raise PermissionError("read-only")
