"""Searches on a real Milvus Lite, by vector, by text and by both."""

from dataclasses import replace

import numpy as np
import pytest

from cluster.core import Filter, Mode
from cluster.errors import InvalidInput
from cluster.store.milvus import MilvusStore
from tests.support.store import FINGERPRINT, a_document, a_row, add, search


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


def test_a_page_is_found_by_its_best_chunk(store: MilvusStore) -> None:
    document = a_document()
    add(
        store,
        a_row(document, 1, 0, "overview", degrees=20),
        a_row(document, 1, 1, "the torque of the gearbox", degrees=10),
        a_row(document, 1, 2, "gearbox", degrees=80),
        a_row(document, 2, 0, "torque and many other words of no interest", degrees=30),
    )
    dense, text = search(store), search(store, "torque gearbox", "text")
    assert [hit.page for hit in dense] == [hit.page for hit in text] == [1, 2]
    assert dense[0].dense == pytest.approx(np.cos(np.radians(10)), abs=1e-5)
    assert text[0].text == "the torque of the gearbox"


def test_chunks_do_not_push_pictures_down(store: MilvusStore) -> None:
    """A page without text ranks by its picture, though text lies nearer to every question."""
    document = a_document()
    add(store, a_row(document, 1, degrees=40))  # a drawing, the nearest of all pictures
    for page in (2, 3, 4):
        add(
            store,
            a_row(document, page, 0, degrees=50 + page),
            a_row(document, page, 1, "words", degrees=10 * page),
        )
    hits = search(store)
    assert [hit.page for hit in hits] == [2, 1, 3, 4]  # by chunk, by picture, by chunk …
    assert hits[0].fused == hits[1].fused == pytest.approx(1 / 61)
    assert (hits[0].dense or 0) > (hits[1].dense or 0)
    by_pictures = search(store, chunk_vectors=False)
    assert [hit.page for hit in by_pictures] == [1, 2, 3, 4]
    assert by_pictures[0].fused is None


def test_a_page_scores_by_all_its_text_and_its_best_chunk(store: MilvusStore) -> None:
    document = a_document()
    add(
        store,
        a_row(document, 1, 0, "torque torque gearbox"),
        a_row(document, 2, 0, "torque torque gearbox"),
        a_row(document, 2, 1, "torque gearbox"),
        a_row(document, 3, 0, "nothing of the kind"),
        a_row(document, 3, 1, "nothing"),
    )
    by_both, by_one = search(store, "torque gearbox", "text")
    assert (by_both.page, by_one.page) == (2, 1)
    assert (by_both.text_score or 0) > (by_one.text_score or 0) > 0
    assert (by_both.text, by_one.text) == ("torque gearbox", "torque torque gearbox")


@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
def test_chunks_without_vectors_are_found_by_their_words(mode: Mode, milvus: MilvusStore) -> None:
    store = milvus.collection(f"words_only_{mode}")
    store.open_collection(FINGERPRINT, chunk_vectors=False)
    document = a_document()
    add(store, a_row(document, 1, 0, "overview", degrees=20), a_row(document, 2, degrees=60))
    add(store, replace(a_row(document, 2, 1, "the torque of the gearbox"), vector=None))
    hits = search(store, "torque", mode)
    assert [hit.page for hit in hits] == {"dense": [1, 2], "text": [2]}.get(mode, [2, 1])
    assert hits[0].text == ("overview" if mode == "dense" else "the torque of the gearbox")
    assert store.forget_pages(document) == 3 and search(store, "torque", mode) == []


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


def test_a_very_long_query_is_only_a_query(texts: MilvusStore) -> None:
    assert search(texts, "gearbox " + "word " * 50_000, "text")[0].page == 6
