"""The evaluation of a collection: load questions, find what is judged, search, keep the result."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster.core import Filter
from cluster.errors import InvalidInput, NotFound
from cluster.settings import Settings
from cluster.store.milvus import open_existing_store
from jobs.evaluation.dataset import WELL_KNOWN, CorpusColumns
from jobs.evaluation.load import load_questions
from jobs.evaluation.questions import Question
from jobs.evaluation.result import AskedQuestion, EvaluationResult, default_name, load_result
from jobs.evaluation.runs import Run, run_variants
from jobs.evaluation.sweep import Sweep, choose_point, split_by_document, sweep_variants
from jobs.evaluation.truth import Truth, resolve_truths
from jobs.evaluation.variants import AS_SET, Variant, make_variant, read_variants
from jobs.progress import Step

CHOSEN = "chosen"


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate. `flags`: the settings that were given; `sweep`: reranks to try, or none."""

    source: Path
    flags: Mapping[str, object] = field(default_factory=dict)
    wanted: Filter = Filter()
    qrels: tuple[str, ...] = ()
    columns: CorpusColumns = WELL_KNOWN
    changes: tuple[str, ...] = ()
    depth: int = 50
    against: str = ""
    name: str = ""
    sweep: tuple[str, ...] = ()


def evaluate_collection(
    settings: Settings, request: EvaluationRequest, step: Step
) -> EvaluationResult:
    """Ask every question with every variant. Raises InvalidInput, NotFound."""
    variants = read_variants(request.changes, request.flags, depth=request.depth)
    baseline = load_result(settings, request.against) if request.against else None
    questions = load_questions(
        request.source, settings, qrels=request.qrels, columns=request.columns
    )
    with open_existing_store(settings) as store:
        fingerprint = store.fingerprint()
        if fingerprint is None:
            raise NotFound(
                f"collection {settings.collection!r} is empty: quire ingest DIR fills it"
            )
        truths = resolve_truths(questions, store, request.wanted)
    if not truths[0].questions():
        raise InvalidInput(f"no question of {request.source} has a relevant document")
    sweep = None
    if request.sweep:
        sweep, questions = _sweep(request, truths[0], questions, step)
        variants.insert(1, make_variant(CHOSEN, sweep.chosen, request.flags, request.depth))
    asked = {question.id for question in questions}
    truths = [truth.part(asked) for truth in truths]
    runs = run_variants(variants, _judged(questions, truths), request.wanted, step)
    if baseline is not None:
        runs.insert(0, _kept_run(baseline, asked))
    return EvaluationResult(
        name=request.name or default_name(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        collection=settings.collection,
        fingerprint=str(fingerprint),
        source=str(request.source),
        depth=request.depth,
        questions=list(map(AskedQuestion.of, questions)),
        truths=truths,
        runs=runs,
        against=request.against,
        sweep=sweep,
    )


def _judged(questions: Sequence[Question], truths: Sequence[Truth]) -> list[Question]:
    """Return the questions that have something relevant in any ground truth."""
    measured = {question_id for truth in truths for question_id in truth.questions()}
    return [question for question in questions if question.id in measured]


def _sweep(
    request: EvaluationRequest, truth: Truth, questions: Sequence[Question], step: Step
) -> tuple[Sweep, list[Question]]:
    """Choose on one half; return what was chosen, and the questions of the other half."""
    tuning, reporting = split_by_document(truth)
    grid = sweep_variants(request.flags, request.sweep, request.depth)
    variants: list[Variant] = [variant for variant, _ in grid.values()]
    asked = [question for question in questions if question.id in tuning]
    runs = run_variants(variants, asked, request.wanted, step)
    changes = {name: changes for name, (_, changes) in grid.items()}
    sweep = choose_point(truth, runs, changes, len(reporting))
    return sweep, [question for question in questions if question.id in reporting]


def _kept_run(baseline: EvaluationResult, asked: set[str]) -> Run:
    """Return the first run of a kept evaluation, of the questions that are asked now, too."""
    run = baseline.own_runs[0]
    rankings = {each: ranking for each, ranking in run.rankings.items() if each in asked}
    if not rankings:
        raise InvalidInput(
            f"evaluation {baseline.name!r} has no question of this file: their ids differ"
        )
    return replace(run, name=f"{baseline.name} ({AS_SET})", rankings=rankings)
