"""Metrics of rankings, by ir-measures (which takes them from TREC's own trec_eval)."""

from collections.abc import Mapping, Sequence

import numpy as np

from cluster.errors import InvalidInput

# name → what ir-measures calls it, and what it is.
METRICS: dict[str, tuple[str, str]] = {
    **{
        f"hit@{k}": (
            f"Success@{k}",
            f"Share of questions with a relevant page among the first {k} (also: Top-{k}).",
        )
        for k in (1, 3, 5, 10)
    },
    **{
        f"recall@{k}": (
            f"R@{k}",
            f"Share of a question's relevant pages that are among the first {k}, mean over "
            "questions.",
        )
        for k in (1, 3, 5, 10)
    },
    **{
        f"precision@{k}": (
            f"P@{k}",
            f"Share of the first {k} that is relevant, mean over questions.",
        )
        for k in (1, 5, 10)
    },
    "mrr": (
        "RR",
        "1 / rank of the first relevant page, 0 where none was found, mean over questions; never "
        "below hit@1, and never above hit@1 + (1 − hit@1) / 2.",
    ),
    "map": (
        "AP",
        "Precision at the rank of each relevant page, 0 for one not found, mean over those and "
        "then over questions.",
    ),
    **{
        f"ndcg@{k}": (
            f"nDCG@{k}",
            f"Sum of grade / log2(1 + rank) over the first {k}, as a share of the same sum in the "
            "best order there is (Järvelin and Kekäläinen, 2002), mean over questions.",
        )
        for k in (5, 10)
    },
}

Values = dict[str, dict[str, float]]  # by question, by metric


def find_metric(name: str) -> str:
    """Return a metric's name as the table has it. Raises InvalidInput."""
    known = name.strip().lower()
    if known not in METRICS:
        raise InvalidInput(f"there is no metric {name!r}: choose among {', '.join(METRICS)}")
    return known


def measure_rankings(
    grades: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]]
) -> Values:
    """Return every metric of every question that is in both and has something relevant.

    grades: by question and key, relevant from 1. rankings: keys by question, best first, each once.
    """
    import ir_measures

    asked = [each for each in rankings if any(grades.get(each, {}).values())]
    qrels = [
        ir_measures.Qrel(each, key, grade) for each in asked for key, grade in grades[each].items()
    ]
    # Scores that fall with the rank: trec_eval sorts by score, and ties by name.
    run = [
        ir_measures.ScoredDoc(each, key, -float(rank))
        for each in asked
        for rank, key in enumerate(rankings[each])
    ]
    names = {ir_measures.parse_measure(theirs): name for name, (theirs, _) in METRICS.items()}
    # What has no ranking at all is left out by trec_eval, and is 0.
    values: Values = {each: dict.fromkeys(METRICS, 0.0) for each in asked}
    if run:
        for metric in ir_measures.iter_calc(list(names), qrels, run):
            values[metric.query_id][names[metric.measure]] = float(metric.value)
    return values


def to_matrix(values: Values, question_ids: Sequence[str]) -> np.ndarray:
    """Return float64[questions, metrics], metrics in the order of METRICS."""
    rows = [[values[each][name] for name in METRICS] for each in question_ids]
    return np.array(rows, np.float64).reshape(len(question_ids), len(METRICS))
