"""Terms for full-text search, chunks of text, and the fusion of two rankings."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cluster.store.fusion import RRF_K, Fusion, fuse
from cluster.text.chunks import chunk_text
from cluster.text.terms import cut_utf8, to_terms

CJK = st.text("令和年景気動向請求書データあいう영수증서울", min_size=2)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", ""),
        (" \n\t?!…「」", ""),
        ("Torque WRENCH, 3.5 mm", "torque wrench 3 5 mm"),
        ("part_no TX-4711", "part no tx 4711"),
        ("Straße über naïve", "straße über naïve"),
        ("請求書", "請求 求書"),
        ("年", "年"),
        ("令和6年の景気", "令和 6 年の の景 景気"),
        ("ＴＸ－４７１１", "tx 4711"),
        ("ﾃﾞｰﾀ", "デー ータ"),
        ("영수증 보관", "영수 수증 보관"),
        ("PDFを開く", "pdf を開 開く"),
        ("人々", "人々"),
        ("a\x00b", "a b"),
    ],
)
def test_terms(text: str, terms: str) -> None:
    assert to_terms(text) == terms


@given(st.text())
def test_terms_are_words_without_space(text: str) -> None:
    terms = to_terms(text)
    assert re.fullmatch(r"([^\W_]+( [^\W_]+)*)?", terms)
    assert to_terms(terms) == terms


@given(st.text(), CJK, st.text())
def test_a_stretch_of_cjk_is_found_inside_any_text(before: str, stretch: str, after: str) -> None:
    query = to_terms(stretch).split()
    assert set(query) <= set(to_terms(f"{before} {stretch} {after}").split())
    assert set(query) <= set(to_terms(f"請{stretch}書").split())


@given(st.text(), st.integers(0, 50))
def test_a_cut_is_the_longest_start_that_fits(text: str, limit_bytes: int) -> None:
    cut = cut_utf8(text, limit_bytes)
    assert text.startswith(cut)
    assert len(cut.encode()) <= limit_bytes
    assert cut == text or len(text[: len(cut) + 1].encode()) > limit_bytes


def test_chunks_share_their_overlap() -> None:
    assert chunk_text("abcdefghij", chars=4, overlap=1) == ["abcd", "defg", "ghij"]
    assert chunk_text("abcdefghijk", chars=4, overlap=1) == ["abcd", "defg", "ghij", "jk"]
    assert chunk_text("  ab \n", chars=4, overlap=1) == ["ab"]
    assert chunk_text(" \n", chars=4, overlap=1) == []


@given(st.text(), st.integers(1, 20), st.integers(0, 19))
def test_chunks_cover_the_text(text: str, chars: int, overlap: int) -> None:
    assume(overlap < chars)
    stripped = text.strip()
    chunks = chunk_text(text, chars=chars, overlap=overlap)
    joined = "".join(
        chunk if not number else chunk[overlap:] for number, chunk in enumerate(chunks)
    )
    assert joined == stripped
    assert all(0 < len(chunk) <= chars for chunk in chunks)
    # Only the last may be short, and none repeats what another holds already.
    assert all(len(chunk) == chars for chunk in chunks[:-1])
    assert len(chunks) <= 1 or len(chunks[-1]) > overlap


def ranked(scores: dict[int, float]) -> dict[str, float]:
    """Scores by page, best first."""
    return {str(page): scores[page] for page in sorted(scores, key=lambda page: -scores[page])}


def fused_pages(
    dense: dict[int, float], text: dict[int, float], method: Fusion, dense_weight: float
) -> dict[int, float]:
    """Fused score by page."""
    fused = fuse(ranked(dense), ranked(text), method, dense_weight)
    return {int(page): score for page, score in fused.items()}


def test_rrf_adds_reciprocal_ranks() -> None:
    fused = fused_pages({1: 0.9, 2: 0.8}, {2: 7.0, 3: 5.0}, "rrf", 0.5)
    assert fused == pytest.approx(
        {
            1: 0.5 / (RRF_K + 1),
            2: 0.5 / (RRF_K + 2) + 0.5 / (RRF_K + 1),
            3: 0.5 / (RRF_K + 2),
        }
    )


def test_weights_add_shares_of_the_best_score() -> None:
    fused = fused_pages({1: 0.8, 2: 0.4}, {2: 6.0, 3: 3.0}, "weights", 0.25)
    assert fused == pytest.approx({1: 0.25, 2: 0.125 + 0.75, 3: 0.375})


SCORES = st.dictionaries(st.integers(1, 9), st.integers(-1000, 1000).map(lambda n: n / 1000))
POSITIVE = st.dictionaries(st.integers(1, 9), st.integers(1, 9000).map(lambda n: n / 1000))


@given(SCORES, POSITIVE, st.sampled_from(["rrf", "weights"]), st.floats(0, 1))
def test_every_page_has_one_score(
    dense: dict[int, float], text: dict[int, float], method: Fusion, weight: float
) -> None:
    assert set(fused_pages(dense, text, method, weight)) == set(dense) | set(text)


@given(SCORES, st.sampled_from(["rrf", "weights"]))
def test_one_ranking_alone_keeps_its_order(dense: dict[int, float], method: Fusion) -> None:
    fused = fused_pages(dense, {}, method, 0.5)
    for better, worse in zip(list(fused), list(fused)[1:], strict=False):
        assert fused[better] >= fused[worse]


@given(POSITIVE, POSITIVE, st.sampled_from(["rrf", "weights"]))
def test_better_in_both_is_better_fused(
    dense: dict[int, float], text: dict[int, float], method: Fusion
) -> None:
    fused = fused_pages(dense, text, method, 0.5)
    both = dense.keys() & text.keys()
    for page in both:
        for other in both:
            if dense[page] > dense[other] and text[page] > text[other]:
                assert fused[page] > fused[other]


@given(POSITIVE, POSITIVE, st.sampled_from(["rrf", "weights"]))
def test_all_weight_on_one_side_is_that_side(
    dense: dict[int, float], text: dict[int, float], method: Fusion
) -> None:
    fused = fused_pages(dense, text, method, 1)
    assert all(fused[page] == 0 for page in text.keys() - dense.keys())
    assert all(fused[page] > 0 for page in dense)
