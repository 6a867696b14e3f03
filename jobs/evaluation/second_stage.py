"""What a reranker did: how its scores agree with the grades, and why it changed nothing."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.evaluation.runs import Ranking, Run
from jobs.evaluation.truth import Truth

MIN_PAIRS = 3  # of a rank correlation
NOT_ASKED = "it was not asked: in mode text, or for an image without words"
NOTHING = "nothing was found to order"
NO_VECTORS = "no multi-vectors are kept of the pages found (multi_vectors at ingest)"
ONE = "there was one candidate"
EQUAL = "all candidates got the same score"
SAME_ORDER = "its order is the first stage's"


@dataclass(frozen=True)
class GradeScores:
    """The scores that candidates of one grade got."""

    grade: int
    candidates: int
    mean_score: float


@dataclass(frozen=True)
class Agreement:
    """How the scores of a second stage agree with the grades of the candidates that are judged.

    `pooled`: Spearman's rank correlation over all of them; `mean`: the mean of that of each
    question whose judged candidates differ in grade and score, over `questions`. None: there are
    too few, or they all have one grade.
    """

    run: str
    candidates: int
    pooled: float | None
    mean: float | None
    questions: int
    by_grade: tuple[GradeScores, ...]


@dataclass(frozen=True)
class Unchanged:
    """How many questions a second stage left as they were, by reason."""

    run: str
    questions: int
    reasons: dict[str, int]


def measure_agreement(truth: Truth, run: Run) -> Agreement | None:
    """Return how a run's second stage agrees with the grades; None where it scored nothing."""
    pairs = [_judged(truth, each, ranking) for each, ranking in run.rankings.items()]
    pooled = [pair for of_question in pairs for pair in of_question]
    if not pooled:
        return None
    single = [rho for of_question in pairs if (rho := spearman(of_question)) is not None]
    scores = defaultdict(list)
    for score, grade in pooled:
        scores[grade].append(score)
    by_grade = (
        GradeScores(grade, len(values), sum(values) / len(values))
        for grade, values in sorted(scores.items())
    )
    mean = sum(single) / len(single) if single else None
    return Agreement(run.name, len(pooled), spearman(pooled), mean, len(single), tuple(by_grade))


def spearman(pairs: Sequence[tuple[float, int]]) -> float | None:
    """Return Spearman's rank correlation; None for under three pairs or a constant side."""
    if len(pairs) < MIN_PAIRS or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    from scipy.stats import spearmanr

    scores, grades = zip(*pairs, strict=True)
    return float(spearmanr(scores, grades).statistic)


def count_unchanged(run: Run) -> Unchanged | None:
    """Return what a run's second stage did not change; None where there was none."""
    if run.rerank == "none":
        return None
    reasons = Counter(filter(None, map(why_unchanged, run.rankings.values())))
    return Unchanged(run.name, len(run.rankings), dict(reasons.most_common()))


def why_unchanged(ranking: Ranking) -> str:
    """Say why the second stage left a ranking as it was; "" where it changed it."""
    if ranking.ordered_by == "none":
        return NOT_ASKED
    if not ranking.pages:
        return NOTHING
    scored = [page for page in ranking.pages if page.second_score is not None]
    if not scored:
        return NO_VECTORS
    if len(scored) == 1:
        return ONE
    if len({page.second_score for page in scored}) == 1:
        return EQUAL
    first = [page.first_score for page in scored]
    return SAME_ORDER if first == sorted(first, reverse=True) else ""


def _judged(truth: Truth, question_id: str, ranking: Ranking) -> list[tuple[float, int]]:
    """Return (score, grade) of the candidates that are judged, the best page of a document."""
    grades = truth.grades.get(question_id, {})
    pairs: dict[str, tuple[float, int]] = {}
    for page in ranking.pages:
        (key,) = truth.keys(question_id, [page.key])
        if page.second_score is not None and key in grades:
            pairs.setdefault(key, (page.second_score, grades[key]))
    return list(pairs.values())
