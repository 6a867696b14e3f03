"""Tenants that are apart, and what is forgotten or trimmed."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.core import Filter
from cluster.ids import document_key, mark, tenant_digest
from cluster.pages.files import PageFiles
from cluster.settings import load_settings
from cluster.store.deletion import (
    begin_deletion,
    end_deletion,
    mark_tenant,
    owners,
    tenant_mark,
)
from cluster.store.facts import rewrite_document
from cluster.store.milvus import MilvusStore
from jobs.forget import Forgetter
from tests.support.store import FINGERPRINT, a_document, a_row, add, remove, search


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


def test_collections_do_not_share_files(milvus: MilvusStore, tmp_path: Path) -> None:
    """But for those of Quire 0.1, which go with the last collection that has the document."""
    document = a_document(tenant="acme")
    former = tmp_path / "pages" / tenant_digest("acme") / document.doc_id
    former.mkdir(parents=True)
    (former / "000002.jpg").write_bytes(b"of 0.1")
    stores = {name: milvus.collection(name) for name in ("one", "two")}
    settings = {name: load_settings(store=str(tmp_path), collection=name) for name in stores}
    files = {name: PageFiles.from_settings(each) for name, each in settings.items()}
    for name, store in stores.items():
        store.open_collection(FINGERPRINT)
        add(store, a_row(document, text="word"))
        files[name].put("acme", document.doc_id, 1, name.encode())
        assert files[name].pages(document) == {1, 2}
        assert files[name].get("acme", document.doc_id, 2) == b"of 0.1"
    assert Forgetter(settings["one"], stores["one"]).forget(document).images == 1
    assert files["one"].pages(document) == {2}
    assert files["two"].get("acme", document.doc_id, 1) == b"two"
    assert len(search(stores["two"], "word", "text")) == 1
    assert Forgetter(settings["two"], stores["two"]).forget(document).images == 2
    assert files["two"].pages(document) == set() and not former.exists()


def test_what_was_marked_belongs_to_nobody(store: MilvusStore) -> None:
    """Writers ask whose a document is: theirs, another ingest's, or nobody's any more."""
    ours = a_document(1, marks=(mark("ingest", "a"), mark("stamp", "s")))
    other = replace(ours, marks=(mark("ingest", "b"), mark("stamp", "s")))
    key = document_key(ours.tenant, ours.doc_id)
    assert owners(store, [ours]) == {key: "gone"}
    store.put_document(ours)
    assert owners(store, [ours]) == {key: "ours"} and owners(store, [other]) == {key: "another"}
    assert store.document(ours.tenant, ours.doc_id) == ours
    begin_deletion(store, ours)
    assert owners(store, [ours]) == {key: "gone"}
    store.put_document(other)  # ingested anew meanwhile
    end_deletion(store, ours)
    assert store.documents() == [other]
    store.put_document(ours)  # its ingest ended after all
    end_deletion(store, ours)
    assert store.documents() == []


def test_a_forgotten_tenant_leaves_a_mark_and_no_document(store: MilvusStore) -> None:
    before = tenant_mark(store, "acme")
    mark_tenant(store, "acme")
    assert tenant_mark(store, "acme") not in ("", before)
    assert tenant_mark(store, "other") == ""
    assert store.documents() == [] and list(store.each_document()) == []


def test_facts_change_and_vectors_stay(store: MilvusStore) -> None:
    document = a_document(3, marks=(mark("ingest", "a"),))
    rows = [a_row(document, page, chunk, f"word{page}") for page in (1, 2) for chunk in (0, 1)]
    add(store, *rows, a_row(a_document(4), text="other"))
    before = search(store, "word1", "hybrid")
    changed = replace(document, tags=("new",), metadata={"year": 2026}, title="Another")
    assert rewrite_document(store, document, changed) == "ours"
    assert store.document("", document.doc_id) == changed
    after = search(store, "word1", "hybrid", wanted=Filter(tags=("new",)))
    assert {hit.page_id for hit in after} == {f"{document.doc_id}:1", f"{document.doc_id}:2"}
    assert all(hit.title == "Another" and hit.metadata == {"year": 2026} for hit in after)
    scores = {hit.page_id: (hit.dense, hit.text_score) for hit in before}
    assert {hit.page_id: (hit.dense, hit.text_score) for hit in after}.items() <= scores.items()
