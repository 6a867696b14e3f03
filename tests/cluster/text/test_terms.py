"""Terms for full-text search."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
