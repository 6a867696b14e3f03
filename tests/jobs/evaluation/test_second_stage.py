"""What a reranker did: agreement with grades, and why nothing changed."""

import pytest

from jobs.evaluation.runs import RankedPage, Ranking, Run
from jobs.evaluation.second_stage import (
    EQUAL,
    NO_VECTORS,
    NOT_ASKED,
    NOTHING,
    ONE,
    SAME_ORDER,
    count_unchanged,
    measure_agreement,
    why_unchanged,
)
from jobs.evaluation.truth import Truth


def a_ranking(*scores: tuple[float, float | None]) -> Ranking:
    """A ranking of pages 1, 2, … with (fused, P("yes")) each."""
    pages = [
        RankedPage("d", number, "", "/d.pdf", fused=fused, rerank=rerank)
        for number, (fused, rerank) in enumerate(scores, start=1)
    ]
    return Ranking(pages, ordered_by="cross-encoder")


@pytest.mark.parametrize(
    ("ranking", "reason"),
    [
        (Ranking(a_ranking((0.5, None)).pages), NOT_ASKED),
        (a_ranking(), NOTHING),
        (a_ranking((0.5, None), (0.4, None)), NO_VECTORS),
        (a_ranking((0.5, 0.9), (0.4, None)), ONE),
        (a_ranking((0.5, 0.7), (0.4, 0.7)), EQUAL),
        (a_ranking((0.5, 0.9), (0.4, 0.7)), SAME_ORDER),
        (a_ranking((0.4, 0.9), (0.5, 0.7)), ""),
    ],
)
def test_why_nothing_changed(ranking: Ranking, reason: str) -> None:
    assert why_unchanged(ranking) == reason


def test_reasons_are_counted() -> None:
    changed, same = a_ranking((0.4, 0.9), (0.5, 0.7)), a_ranking((0.5, 0.9), (0.4, 0.7))
    run = Run("r", "cross-encoder", {"a": changed, "b": same, "c": same})
    counted = count_unchanged(run)
    assert counted is not None
    assert (counted.questions, counted.reasons) == (3, {SAME_ORDER: 2})
    assert count_unchanged(Run("r", "none", {"a": changed})) is None


def test_agreement_with_grades_is_over_judged_candidates() -> None:
    grades = {"d:1": 3, "d:2": 2, "d:3": 0}  # page 4 is not judged
    ranking = a_ranking((0.1, 0.9), (0.2, 0.8), (0.3, 0.1), (0.4, 0.05))
    run = Run("r", "cross-encoder", {"q": ranking})
    agreement = measure_agreement(Truth("t", {"q": grades}), run)
    assert agreement is not None
    assert agreement.candidates == 3
    assert agreement.pooled == agreement.mean == 1
    assert [(each.grade, each.mean_score) for each in agreement.by_grade] == [
        (0, 0.1),
        (2, 0.8),
        (3, 0.9),
    ]
    reverse = measure_agreement(Truth("t", {"q": {"d:1": 0, "d:2": 1, "d:3": 2}}), run)
    assert reverse is not None
    assert reverse.pooled == -1
    one_grade = measure_agreement(Truth("t", {"q": dict.fromkeys(grades, 1)}), run)
    assert one_grade is not None
    assert one_grade.pooled is None


def test_a_document_counts_by_its_best_page() -> None:
    ranking = a_ranking((0.1, 0.9), (0.2, 0.8))
    truth = Truth("t", {"q": {"d": 2}}, by_document={"q"})
    agreement = measure_agreement(truth, Run("r", "cross-encoder", {"q": ranking}))
    assert agreement is not None
    assert agreement.by_grade[0].mean_score == 0.9
