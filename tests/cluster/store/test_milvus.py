"""The store on a real Milvus Lite: round trips, searches, filters, and who stops the server."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core import Document, Filter, Fingerprint, Hit, Mode, Row, Scalar
from cluster.errors import FingerprintMismatch, InvalidInput, StoreUnavailable
from cluster.ids import doc_id_of
from cluster.pages.files import PageFiles
from cluster.settings import Settings, load_settings
from cluster.store.filters import to_expression
from cluster.store.milvus import MilvusStore, open_store
from cluster.store.schema import check_document_fields
from jobs.forget import forget_document

DIMENSION = 4
FINGERPRINT = Fingerprint(
    model="model-a",
    revision="0123456789abcdef",
    precision="fp32",
    pooling="last",
    dimension=DIMENSION,
    max_pixels=65_536,
    instruction='Represent the "input".',
    page_input="image",
)
HOSTILE = [
    '" or 1==1',
    "]) or (",
    '"]) or array_contains_all(labels, ["',
    "' or tenant like '%",
    "a\x00b",
    "%",
    "\\",
    "\ud800",
    "改行\nと\ttab",
    "x" * 1_000_000,
]


def settings_in(folder: Path) -> Settings:
    return load_settings(store=str(folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[MilvusStore]:
    """A running server, on which every test but those of the server itself works."""
    with open_store(settings_in(folder)) as opened:
        yield opened


@pytest.fixture(scope="module")
def collection(server: MilvusStore) -> MilvusStore:
    server.open_collection(FINGERPRINT)
    return server


@pytest.fixture
def store(collection: MilvusStore) -> Iterator[MilvusStore]:
    """An empty collection; making a new one takes pymilvus 1.5 s, so it is emptied again."""
    yield collection
    for document in collection.documents():
        collection.forget(document)


@pytest.fixture(scope="module")
def library(server: MilvusStore) -> MilvusStore:
    """Documents that differ in what filters ask for; tests only read it."""
    store = server.collection("library")
    store.open_collection(FINGERPRINT)
    for number, changes in enumerate(LIBRARY.values()):
        add(store, a_row(a_document(number, **changes), text=f"common word number{number}"))
    return store


LIBRARY: dict[str, dict[str, Any]] = {
    "plain": {},
    "acme": {"tenant": "acme", "tags": ("invoice", "2024"), "metadata": {"number": 1}},
    "beta": {"tenant": "beta", "tags": ("invoice",), "metadata": {"number": "1"}},
    "gamma": {"tenant": "beta", "tags": ("receipt",), "metadata": {"number": True, "by": "Ann"}},
    "late": {"tenant": "acme", "tags": ("invoice",), "time_ms": 1_900_000_000_000},
}


def a_document(number: int = 0, **changes: Any) -> Document:
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    document = Document(
        doc_id=doc_id_of(sha256),
        sha256=sha256,
        source=f"/library/{number}.pdf",
        title=f"Document {number}",
        pages=1,
        status="indexed",
        fingerprint=FINGERPRINT.to_json(),
        time_ms=1_700_000_000_000 + number,
    )
    return replace(document, **changes)


def direction(degrees: float) -> np.ndarray:
    """A unit vector, float32[4]; its cosine to direction(0) is cos(degrees)."""
    radians = np.radians(degrees)
    return np.array([np.cos(radians), np.sin(radians), 0, 0], dtype=np.float32)


def a_row(
    document: Document, page: int = 1, chunk: int = 0, text: str = "", degrees: float = 0
) -> Row:
    return Row(document, page, chunk, text, direction(degrees), 640, 832)


def add(store: MilvusStore, *rows: Row) -> None:
    """Write rows and the documents they are of."""
    for document in {
        row.document.tenant + row.document.doc_id: row.document for row in rows
    }.values():
        store.put_document(document)
    store.write_rows(rows)


def search(store: MilvusStore, text: str = "", mode: Mode = "dense", **options: Any) -> list[Hit]:
    wanted = options.pop("wanted", Filter())
    top_k = options.pop("top_k", 10)
    vector = None if mode == "text" else direction(0).tolist()
    return store.search(vector=vector, text=text, wanted=wanted, mode=mode, top_k=top_k, **options)


# Round trips


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
def test_a_collection_without_rows_answers(mode: Mode, server: MilvusStore) -> None:
    empty = server.collection("empty")
    empty.open_collection(FINGERPRINT)
    assert search(empty, "gearbox", mode) == []


def test_an_empty_store_answers(server: MilvusStore) -> None:
    nothing = server.collection("never_opened")
    assert nothing.fingerprint() is None
    assert nothing.documents() == []
    assert nothing.count_pages() == 0
    assert nothing.pages_present(a_document()) == set()
    assert search(nothing) == []


# Searching


def test_dense_is_best_first_and_higher_is_better(store: MilvusStore) -> None:
    document = a_document()
    add(store, *(a_row(document, page, degrees=20.0 * page) for page in (3, 1, 4, 2)))
    hits = search(store)
    assert [hit.page for hit in hits] == [1, 2, 3, 4]
    expected = np.cos(np.radians([20, 40, 60, 80]))
    assert [hit.dense for hit in hits] == pytest.approx(expected, abs=1e-5)
    assert all(hit.text_score is None and hit.fused is None for hit in hits)


def test_text_is_best_first_and_higher_is_better(store: MilvusStore) -> None:
    texts = {1: "a wrench", 2: "wrench wrench torque", 3: "nothing of the kind"}
    add(store, *(a_row(a_document(), page, text=text) for page, text in texts.items()))
    hits = search(store, "Torque WRENCH", "text")
    assert [hit.page for hit in hits] == [2, 1]
    scores = [hit.text_score or 0 for hit in hits]
    assert scores[0] > scores[1] > 0
    assert all(hit.dense is None and hit.fused is None for hit in hits)


def test_a_page_scores_as_its_best_row(store: MilvusStore) -> None:
    document = a_document()
    add(
        store,
        a_row(document, 1, 0, "overview", degrees=70),
        a_row(document, 1, 1, "the torque of the gearbox", degrees=10),
        a_row(document, 2, 0, "torque and many other words of no interest", degrees=30),
    )
    dense, text = search(store), search(store, "torque gearbox", "text")
    assert [hit.page for hit in dense] == [hit.page for hit in text] == [1, 2]
    assert dense[0].dense == pytest.approx(np.cos(np.radians(10)), abs=1e-5)
    assert text[0].text == "the torque of the gearbox"


@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
def test_top_k_counts_pages_not_rows(mode: Mode, store: MilvusStore) -> None:
    document = a_document()
    # 60 rows of the first page are all better than any of the others.
    add(store, *(a_row(document, 1, chunk, "gear gear gear") for chunk in range(60)))
    for page in range(2, 9):
        add(store, a_row(document, page, text=f"gear{' filler' * page}", degrees=page))
    hits = search(store, "gear", mode, top_k=5)
    assert [hit.page for hit in hits] == [1, 2, 3, 4, 5]


def test_hybrid_keeps_every_score(store: MilvusStore) -> None:
    document = a_document()
    add(
        store,
        a_row(document, 1, text="gearbox", degrees=60),
        a_row(document, 2, text="pictures only", degrees=5),
        a_row(document, 3, text="gearbox and torque", degrees=10),
    )
    hits = {hit.page: hit for hit in search(store, "torque gearbox", "hybrid")}
    assert list(hits) == [3, 1, 2]
    assert all(hit.dense is not None and hit.fused is not None for hit in hits.values())
    assert hits[2].text_score is None
    # Page 3 is second by vector and first by text.
    assert hits[3].fused == pytest.approx(0.5 / 62 + 0.5 / 61)


@pytest.mark.parametrize(("fusion", "weight", "first"), [("weights", 0.9, 2), ("weights", 0.1, 1)])
def test_weights_decide(fusion: str, weight: float, first: int, store: MilvusStore) -> None:
    document = a_document()
    add(
        store,
        a_row(document, 1, text="torque", degrees=50),
        a_row(document, 2, text="torque among many words of little interest", degrees=0),
    )
    hits = search(store, "torque", "hybrid", fusion=fusion, dense_weight=weight)
    assert [hit.page for hit in hits] == [first, 3 - first]


def test_hybrid_with_one_side_only(store: MilvusStore) -> None:
    add(store, a_row(a_document(), text="gearbox"))
    [by_vector] = search(store, "", "hybrid")
    [by_text] = store.search(vector=None, text="gearbox", wanted=Filter(), mode="hybrid", top_k=3)
    assert by_vector.dense is not None and by_vector.text_score is None
    assert by_text.text_score is not None and by_text.dense is None


@pytest.mark.parametrize(("mode", "text"), [("text", ""), ("text", " ?! \n"), ("text", "\x00")])
def test_a_search_for_nothing_is_refused(mode: Mode, text: str, store: MilvusStore) -> None:
    with pytest.raises(InvalidInput):
        search(store, text, mode)


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("景気動向", 1),
        ("請求書の合計", 2),
        ("ﾃﾞｰﾀﾍﾞｰｽ", 3),
        ("영수증", 4),
        ("서울특별시 강남구", 5),
        ("ＴＸ－４７１１", 6),
    ],
)
def test_japanese_and_korean_full_text(query: str, page: int, texts: MilvusStore) -> None:
    assert search(texts, query, "text")[0].page == page


@pytest.fixture(scope="module")
def texts(server: MilvusStore) -> MilvusStore:
    """One page for each of several texts; tests only read it."""
    store = server.collection("texts")
    store.open_collection(FINGERPRINT)
    pages = [
        "内閣府は月例経済報告で景気動向指数を発表した。",
        "この請求書の合計金額は税込み12,000円です。",
        "データベースの設定を変更する方法について説明します。",
        "영수증을 분실하지 않도록 보관하여 주십시오.",
        "본사는 서울특별시 강남구에 위치하고 있습니다.",
        "Replace part TX-4711 of the gearbox.",
    ]
    document = a_document()
    add(store, *(a_row(document, page, text=text) for page, text in enumerate(pages, 1)))
    return store


def test_a_very_long_query_is_only_a_query(texts: MilvusStore) -> None:
    assert search(texts, "gearbox " + "word " * 50_000, "text")[0].page == 6


# Filters


def moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


LATE = moment(1_900_000_000_000)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Filter(), set(LIBRARY)),
        (Filter(tenant="acme"), {"acme", "late"}),
        (Filter(tenant=""), {"plain"}),
        (Filter(tags=("invoice",)), {"acme", "beta", "late"}),
        (Filter(tags=("invoice", "2024")), {"acme"}),
        (Filter(metadata={"number": 1}), {"acme"}),
        (Filter(metadata={"number": "1"}), {"beta"}),
        (Filter(metadata={"number": True}), {"gamma"}),
        (Filter(metadata={"number": True, "by": "Ann"}), {"gamma"}),
        (Filter(metadata={"number": 1, "by": "Ann"}), set()),
        (Filter(doc_ids=(a_document(1).doc_id, a_document(3).doc_id)), {"acme", "gamma"}),
        (Filter(after=LATE), {"late"}),
        (Filter(before=LATE), set(LIBRARY) - {"late"}),
        (Filter(before=LATE - timedelta(days=20_000)), set()),
        (Filter(after=datetime.min.replace(tzinfo=UTC)), set(LIBRARY)),
        (Filter(before=datetime.max.replace(tzinfo=UTC)), set(LIBRARY)),
        (Filter(tenant="acme", tags=("invoice",), before=LATE), {"acme"}),
        (Filter(tenant="beta", metadata={"number": 1}), set()),
        (
            Filter(
                tenant="acme",
                tags=("invoice",),
                doc_ids=(a_document(4).doc_id,),
                after=LATE - timedelta(seconds=1),
                before=LATE + timedelta(seconds=1),
            ),
            {"late"},
        ),
    ],
)
@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
def test_filters(mode: Mode, wanted: Filter, names: set[str], library: MilvusStore) -> None:
    ids = {a_document(number).doc_id: name for number, name in enumerate(LIBRARY)}
    found = search(library, "common", mode, wanted=wanted)
    assert {ids[hit.doc_id] for hit in found} == names
    assert {ids[document.doc_id] for document in library.documents(wanted)} == names
    assert library.count_pages(wanted) == len(names)


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value[:20]))
@pytest.mark.parametrize("field", ["tenant", "tags", "metadata key", "metadata value", "doc_ids"])
def test_hostile_values_find_nothing(field: str, value: str, library: MilvusStore) -> None:
    wanted = {
        "tenant": Filter(tenant=value),
        "tags": Filter(tags=(value,)),
        "metadata key": Filter(metadata={value: 1}),
        "metadata value": Filter(metadata={"number": value}),
        "doc_ids": Filter(doc_ids=(value,)),
    }[field]
    if field == "doc_ids":
        with pytest.raises(InvalidInput):
            search(library, wanted=wanted)
    else:
        assert search(library, wanted=wanted) == []
        assert library.documents(wanted) == []


def test_very_many_values_find_nothing(library: MilvusStore) -> None:
    tags = tuple(f"tag {number}" for number in range(3_000))
    assert search(library, wanted=Filter(tags=tags)) == []


_IDS = r'\["[0-9a-f]+"(, "[0-9a-f]+")*\]'
_CLAUSE = rf"(array_contains_all\(labels, {_IDS}\)|doc_id in {_IDS}|time_ms (>=|<) -?\d+)"
_EXPRESSION = re.compile(rf"({_CLAUSE}( and {_CLAUSE})*)?")
_MOMENTS = st.none() | st.datetimes(timezones=st.just(UTC))
_SCALARS = st.text() | st.integers() | st.floats() | st.booleans()


@given(
    st.builds(
        Filter,
        tenant=st.none() | st.text(),
        tags=st.lists(st.text(), max_size=3).map(tuple),
        doc_ids=st.lists(st.text("0123456789abcdef", min_size=32, max_size=32)).map(tuple),
        metadata=st.dictionaries(st.text(), _SCALARS, max_size=3),
        after=_MOMENTS,
        before=_MOMENTS,
    )
)
@settings(deadline=None, max_examples=60)
def test_expressions_hold_digests_and_numbers_only(wanted: Filter) -> None:
    assert _EXPRESSION.fullmatch(to_expression(wanted))


@given(st.text())
@settings(deadline=None, max_examples=60)
def test_document_ids_are_checked(doc_id: str) -> None:
    with pytest.raises(InvalidInput):
        to_expression(Filter(doc_ids=(doc_id,)))


# Tenants and forgetting


def test_tenants_with_the_same_bytes_are_apart(store: MilvusStore) -> None:
    ours, theirs = a_document(tenant="ours"), a_document(tenant="theirs")
    for document in (ours, theirs):
        add(store, a_row(document, text=f"secret of {document.tenant}"))
    assert {hit.tenant for hit in search(store, "secret", "hybrid")} == {"ours", "theirs"}
    assert store.forget(ours) == 1
    assert store.document("ours", ours.doc_id) is None
    assert store.document("theirs", theirs.doc_id) == theirs
    assert [hit.tenant for hit in search(store, "secret", "hybrid")] == ["theirs"]


def test_expected_cer_is_a_filter_that_unknown_pages_do_not_pass(store: MilvusStore) -> None:
    document = a_document()
    cers = {1: None, 2: 0.0, 3: 0.25, 4: 1.0}
    add(
        store,
        *(
            replace(a_row(document, page), readings={} if cer is None else {"expected_cer": cer})
            for page, cer in cers.items()
        ),
    )
    assert store.readings(document, ["expected_cer"]) == {
        2: {"expected_cer": 0.0},
        3: {"expected_cer": 0.25},
        4: {"expected_cer": 1.0},
    }
    assert store.pages_present(document) == {1, 2, 3, 4}
    for wanted, pages in (
        (Filter(), {1, 2, 3, 4}),
        (Filter(max_cer=0.25), {2, 3}),
        (Filter(min_cer=0.25), {3, 4}),
        (Filter(min_cer=0.0), {2, 3, 4}),
        (Filter(min_cer=0.1, max_cer=0.3), {3}),
    ):
        found = search(store, wanted=wanted)
        assert {hit.page for hit in found} == pages
        assert all(hit.expected_cer == cers[hit.page] for hit in found)
    for wrong in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="a share from 0 to 1"):
            search(store, wanted=Filter(max_cer=wrong))


def test_forgotten_rows_are_gone_at_once(store: MilvusStore) -> None:
    kept, gone = a_document(1), a_document(2)
    for document in (kept, gone):
        add(store, *(a_row(document, page, chunk, "x") for page in (1, 2) for chunk in (0, 1)))
    assert store.forget(gone) == 4
    for mode in ("dense", "text", "hybrid"):
        assert {hit.doc_id for hit in search(store, "x", mode)} == {kept.doc_id}
    assert store.documents() == [kept]
    assert store.pages_present(gone) == set()
    assert store.count_pages() == 2
    assert store.forget(gone) == 0


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
    assert store.forget(ours) == 2 + 4 + 2
    assert store.forget(theirs) == 16


def test_a_removal_that_failed_can_be_repeated(store: MilvusStore, tmp_path: Path) -> None:
    document = a_document()
    add(store, a_row(document, text="word"))
    images = PageFiles(str(tmp_path))
    images.put(document.tenant, document.doc_id, 1, b"jpeg")
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(images, "forget", refuse)
        with pytest.raises(PermissionError):
            forget_document(store, images, document)
    assert search(store, "word", "hybrid") == []
    assert store.document(document.tenant, document.doc_id) == document
    assert forget_document(store, images, document).images == 1
    assert store.document(document.tenant, document.doc_id) is None


def refuse(*_: object) -> int:
    raise PermissionError("read-only")


def test_another_fingerprint_is_refused(store: MilvusStore) -> None:
    add(store, a_row(a_document(), text="held"))
    other = replace(FINGERPRINT, model="model-b", precision="bf16")
    with pytest.raises(FingerprintMismatch) as refusal:
        store.open_collection(other)
    assert "model-a" in str(refusal.value) and "model-b" in str(refusal.value)
    store.open_collection(FINGERPRINT)
    assert store.fingerprint() == FINGERPRINT and store.count_pages() > 0


def test_a_collection_that_was_never_filled_takes_another_model(store: MilvusStore) -> None:
    """As one is left by an ingest whose model could not be loaded."""
    left = store.collection("never_filled")
    left.open_collection(FINGERPRINT)
    other = replace(FINGERPRINT, model="model-b", dimension=8)
    left.open_collection(other)
    assert left.fingerprint() == other and left.count_pages() == 0


def test_collections_are_listed_with_their_fingerprints(store: MilvusStore) -> None:
    other = replace(FINGERPRINT, dimension=8)
    store.collection("of_another_model").open_collection(other)
    found = store.collections()
    assert found["of_another_model"] == other
    assert found["quire"] == FINGERPRINT


# The server


def servers_of(folder: Path) -> list[psutil.Process]:
    """The Milvus Lite servers whose data lies in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if len(line) > 1 and Path(line[0]).name == "milvus" and line[1].startswith(str(folder)):
            found.append(process)
    return found


@contextmanager
def another_user(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that uses the store of a folder until its input closes, and the address it got."""
    code = (
        "import sys; from cluster.store.lite import MilvusLiteServer; from pathlib import Path;"
        "server = MilvusLiteServer(Path(sys.argv[1])); print(server.uri, flush=True);"
        "sys.stdin.read(); server.close()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "milvus")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        yield process, process.stdout.readline().strip()


def is_alive(process: psutil.Process) -> bool:
    """False as well for a process that has ended and that its parent has yet to reap."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_server_listens_on_loopback_only(folder: Path, store: MilvusStore) -> None:
    [server] = servers_of(folder)
    listening = [c for c in server.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    addresses = {c.laddr.ip.removeprefix("::ffff:") for c in listening}
    assert addresses == {"127.0.0.1"}
    assert store.address.uri == f"http://127.0.0.1:{listening[0].laddr.port}"


def test_the_last_user_stops_the_server(tmp_path: Path) -> None:
    with another_user(tmp_path) as (process, uri):
        with open_store(settings_in(tmp_path)) as store:
            assert store.address.uri == uri
        [server] = servers_of(tmp_path)  # we left; the other still uses it
        process.communicate()
        assert process.returncode == 0
    assert not is_alive(server)
    assert servers_of(tmp_path) == []


def test_the_server_outlives_the_one_who_started_it(tmp_path: Path) -> None:
    with another_user(tmp_path) as (process, uri), open_store(settings_in(tmp_path)) as store:
        process.communicate()
        assert store.address.uri == uri
        store.open_collection(FINGERPRINT)
        assert store.count_pages() == 0
    assert servers_of(tmp_path) == []


def test_a_killed_user_does_not_block_the_next(tmp_path: Path) -> None:
    with another_user(tmp_path) as (process, uri):
        process.kill()
    with open_store(settings_in(tmp_path)) as store:
        assert store.address.uri == uri  # the server it left behind
    assert servers_of(tmp_path) == []


def test_a_killed_server_is_started_again_with_its_data(tmp_path: Path) -> None:
    document = a_document()
    with open_store(settings_in(tmp_path)) as store:
        store.open_collection(FINGERPRINT)
        add(store, *(a_row(document, page, text="kept") for page in (1, 2, 3)))
        [server] = servers_of(tmp_path)
        server.kill()
    with open_store(settings_in(tmp_path)) as store:
        assert store.documents() == [document]
        assert {hit.page for hit in search(store, "kept", "hybrid")} == {1, 2, 3}
    assert servers_of(tmp_path) == []


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput), open_store(settings_in(tmp_path)) as store:
        store.open_collection(FINGERPRINT)
        search(store, "", "text")
    assert servers_of(tmp_path) == []


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://nowhere.invalid:19530"])
def test_a_server_that_is_not_there_is_named(uri: str) -> None:
    with (
        pytest.raises(StoreUnavailable, match=re.escape(uri)),
        open_store(load_settings(store=uri)),
    ):
        pass


def test_an_address_that_is_none_is_refused() -> None:
    with (
        pytest.raises((InvalidInput, StoreUnavailable)),
        open_store(load_settings(store="http://localhost:milvus")),
    ):
        pass
