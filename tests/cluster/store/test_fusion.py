"""The fusion of rankings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.store.fusion import RRF_K, Fusion, Side, fuse


def ranked(scores: dict[int, float]) -> dict[str, float]:
    """Scores by page, best first."""
    return {str(page): scores[page] for page in sorted(scores, key=lambda page: -scores[page])}


def fused_pages(
    dense: dict[int, float], text: dict[int, float], method: Fusion, dense_weight: float
) -> dict[int, float]:
    """Fused score by page."""
    sides = [Side((ranked(dense),), dense_weight), Side((ranked(text),), 1 - dense_weight)]
    fused = fuse(sides, method)
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


@pytest.mark.parametrize("method", ["rrf", "weights"])
def test_of_the_rankings_of_a_side_the_best_counts(method: Fusion) -> None:
    pictures, chunks = ranked({1: 0.2, 2: 0.1}), ranked({3: 0.9, 2: 0.6, 1: 0.3})
    fused = fuse([Side((pictures, chunks), 0.5), Side((ranked({2: 7.0}),), 0.5)], method)
    best = 1 / (RRF_K + 1) if method == "rrf" else 1.0
    second = 1 / (RRF_K + 2) if method == "rrf" else 0.6 / 0.9
    expected = {"1": best / 2, "2": second / 2 + best / 2, "3": best / 2}
    assert fused == pytest.approx(expected)


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
