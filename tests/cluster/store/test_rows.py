"""Documents and rows: what is written comes back, or is refused."""

from dataclasses import replace

import pytest

from cluster.core import Filter, Hit, Mode, Scalar
from cluster.errors import InvalidInput
from cluster.store.milvus import MilvusStore
from cluster.store.schema import check_document_fields
from tests.support.store import FINGERPRINT, a_document, a_row, add, search


def test_documents_come_back_as_they_were(store: MilvusStore) -> None:
    document = a_document(
        source='/data/報告 "2024"/{a}\n[b].pdf',
        title="令和6年 'annual' \"report\" {draft}\nsecond line",
        tenant='株式会社 "A" {x}\n\\',
        tags=('"quoted"', "한국어", "a]b[c", "new\nline"),
        metadata={"who": 'Ann "A" {b}\n日本', "n": 1, "x": 1.5, "yes": True, "no": False},
        error='corrupt: "trailer" {missing}',
        pages=12,
        status="failed",
    )
    store.put_document(document)
    assert store.document(document.tenant, document.doc_id) == document
    assert store.documents() == [document]
    assert store.documents(source=document.source) == [document]
    assert store.documents(status="failed") == [document]
    assert store.documents(status="indexed") == []


def test_rows_come_back_as_they_were(store: MilvusStore) -> None:
    document = a_document(tenant="東京", tags=('"a"', "b\n"), metadata={"k": "値", "n": 2})
    text = 'Rechnung "4711" {総額}\n\\ 영수증'
    add(store, a_row(document, page=7, text=text))
    [hit] = search(store)
    assert hit.dense == pytest.approx(1, abs=1e-5)
    assert replace(hit, dense=None) == Hit(
        doc_id=document.doc_id,
        page=7,
        title=document.title,
        source=document.source,
        text=text,
        tenant=document.tenant,
        tags=document.tags,
        metadata=document.metadata,
    )


@pytest.mark.parametrize("text", ["あ" * 30_000, "a" + "あ" * 30_000, "word " * 20_000])
def test_long_text_is_cut_at_a_character(text: str, store: MilvusStore) -> None:
    add(store, a_row(a_document(), text=text))
    [hit] = search(store)
    assert text.startswith(hit.text)
    assert 65_535 - 3 < len(hit.text.encode()) <= 65_535


def test_lone_surrogates_are_replaced(store: MilvusStore) -> None:
    document = a_document(source="/data/\udce9.pdf", title="a\ud800b", error="\udfff")
    add(store, a_row(document, text="gear\ud800box"))
    stored = store.document("", document.doc_id)
    assert stored is not None
    assert (stored.source, stored.title, stored.error) == ("/data/?.pdf", "a?b", "?")
    assert store.documents(source=document.source) == [stored]
    assert search(store)[0].text == "gear?box"


@pytest.mark.parametrize(
    ("tenant", "tags", "metadata"),
    [
        ("x" * 257, (), {}),
        ("あ" * 86, (), {}),
        ("\ud800", (), {}),
        ("", ("",), {}),
        ("", ("x" * 257,), {}),
        ("", ("\ud800",), {}),
        ("", tuple(map(str, range(65))), {}),
        ("", (), {"1st": 1}),
        ("", (), {"a b": 1}),
        ("", (), {"k": "\ud800"}),
        ("", (), {"k": float("nan")}),
        ("", (), {"k": float("inf")}),
        ("", (), {"k": 2**64}),
        ("", (), {"k": "x" * 40_000}),
        ("", (), {f"k{number}": 1 for number in range(129)}),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_does_not_fit_is_refused(
    tenant: str, tags: tuple[str, ...], metadata: dict[str, Scalar]
) -> None:
    with pytest.raises(InvalidInput):
        check_document_fields(tenant, tags, metadata)


def test_writing_again_changes_nothing(store: MilvusStore) -> None:
    document = a_document()
    for _ in range(2):
        store.put_document(document)
        store.write_rows([a_row(document, page, text="same") for page in (1, 2)])
    assert store.count_pages() == 2
    assert store.count_documents("indexed") == 1
    assert sorted(hit.page for hit in search(store, "same", "text")) == [1, 2]
    store.put_document(replace(document, status="failed", error="late"))
    assert (store.count_documents("indexed"), store.count_documents("failed")) == (0, 1)


def test_pages_present_and_counts_ignore_chunks(store: MilvusStore) -> None:
    first, second = a_document(1), a_document(2, tenant="acme")
    rows = [a_row(first, page, chunk) for page in (1, 3) for chunk in (0, 1, 2)]
    # Page 5 has lost its own row: it is not there yet.
    add(store, *rows, a_row(first, 5, 1), a_row(second, 2))
    assert store.pages_present(first) == {1, 3}
    assert store.pages_present(second) == {2}
    assert store.pages_present(replace(first, tenant="acme")) == set()
    assert store.count_pages() == 3
    assert store.count_pages(Filter(tenant="acme")) == 1


@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
def test_a_collection_without_rows_answers(mode: Mode, milvus: MilvusStore) -> None:
    empty = milvus.collection("empty")
    empty.open_collection(FINGERPRINT)
    assert search(empty, "gearbox", mode) == []


def test_an_empty_store_answers(milvus: MilvusStore) -> None:
    nothing = milvus.collection("never_opened")
    assert nothing.fingerprint() is None
    assert nothing.documents() == []
    assert nothing.count_pages() == 0
    assert nothing.pages_present(a_document()) == set()
    assert search(nothing) == []
