"""The report of an evaluation: tables and notes, as the terminal, Markdown and HTML show them."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.evaluation.comparison import (
    Column,
    Latency,
    compare_runs,
    measure_run,
    stage_latencies,
)
from jobs.evaluation.metrics import METRICS, Values
from jobs.evaluation.result import EvaluationResult
from jobs.evaluation.runs import RankedPage
from jobs.evaluation.second_stage import (
    Agreement,
    Unchanged,
    count_unchanged,
    measure_agreement,
)
from jobs.evaluation.sweep import Sweep
from jobs.evaluation.truth import Truth

WORST = 20
MAX_NAMED = 10  # documents in a note


@dataclass(frozen=True)
class TruthTable:
    """The metrics of every run by one ground truth, and the agreement of rerankers with it."""

    truth: str
    columns: list[Column]
    agreements: list[Agreement]


@dataclass(frozen=True)
class WorstQuestion:
    """A question that was answered badly: its nDCG@10, the keys wanted, the pages found."""

    id: str
    text: str
    image: str
    ndcg: float
    wanted: list[str]
    found: list[RankedPage]
    relevant: list[bool]  # of each page found


@dataclass
class Report:
    """What an evaluation shows."""

    name: str
    facts: dict[str, str]
    notes: list[str]
    tables: list[TruthTable]
    latencies: dict[str, dict[str, Latency]]  # by run, by stage
    unchanged: list[Unchanged]
    worst: list[WorstQuestion]
    sweep: Sweep | None = None
    definitions: dict[str, str] = field(
        default_factory=lambda: {name: text for name, (_, text) in METRICS.items()}
    )


def make_report(result: EvaluationResult) -> Report:
    """Return the tables of an evaluation."""
    tables = []
    for truth in result.truths:
        agreements = [measure_agreement(truth, run) for run in result.own_runs]
        columns = compare_runs(truth, result.runs)
        tables.append(TruthTable(truth.name, columns, [each for each in agreements if each]))
    return Report(
        name=result.name,
        facts={
            "made": result.created,
            "questions": f"{len(result.questions):,} from {result.source}",
            "collection": f"{result.collection} ({result.fingerprint})",
            "pages returned by every search": str(result.depth),
        },
        notes=list(_notes(result)),
        tables=tables,
        latencies={run.name: stage_latencies(run) for run in result.own_runs},
        unchanged=[each for run in result.own_runs if (each := count_unchanged(run))],
        worst=_worst(result, result.truths[0]),
        sweep=result.sweep,
    )


def to_json(result: EvaluationResult, report: Report) -> str:
    """Return the report as JSON, with every metric of every question."""
    by_question: dict[str, dict[str, Values]] = {
        truth.name: {run.name: measure_run(truth, run) for run in result.runs}
        for truth in result.truths
    }
    values: dict[str, Any] = {**asdict(report), "synthetic": _synthetic(result)}
    return json.dumps({**values, "per_question": by_question}, ensure_ascii=False, indent=1)


def metric_rows(table: TruthTable) -> list[dict[str, str]]:
    """Return a row for each metric with a cell for each run, as people read it."""
    rows = []
    for name in METRICS:
        row = {"metric": name}
        for column in table.columns:
            cell = column.cells[name]
            text = f"{cell.value.mean:.3f} [{cell.value.low:.3f}, {cell.value.high:.3f}]"
            if cell.difference is not None:
                text += f" {cell.difference.mean:+.3f} (p {format_p(cell.difference.p)})"
            row[column.run] = text
        rows.append(row)
    return rows


def format_p(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _synthetic(result: EvaluationResult) -> int:
    return sum(question.synthetic for question in result.questions)


def _notes(result: EvaluationResult) -> Iterator[str]:
    if synthetic := _synthetic(result):
        yield (
            f"{synthetic:,} of {len(result.questions):,} questions are synthetic: a program made "
            "them from the pages themselves. They compare variants; they do not say how well "
            "people's questions are answered."
        )
    for truth in result.truths:
        unmeasured = len(result.questions) - len(truth.questions())
        if unmeasured:
            yield f"{truth.name}: {unmeasured:,} questions have nothing relevant and are left out."
        if truth.missing:
            named = ", ".join(truth.missing[:MAX_NAMED])
            more = "" if len(truth.missing) <= MAX_NAMED else ", …"
            yield (
                f"{truth.name}: judged documents that the collection lacks, which count as not "
                f"found: {len(truth.missing):,} ({named}{more})"
            )
        if truth.by_document:
            yield (
                f"{truth.name}: {len(truth.by_document):,} questions are judged by document; the "
                "first page found of a document stands for it."
            )
    for run in result.own_runs:
        errors = [ranking.error for ranking in run.rankings.values() if ranking.error]
        if errors:
            yield f"{run.name}: {len(errors):,} questions could not be asked: {errors[0]}"
    if result.against:
        yield (
            f"Differences are to the first run of evaluation {result.against}, over the questions "
            "of both."
        )


def _worst(result: EvaluationResult, truth: Truth) -> list[WorstQuestion]:
    """Return the questions that the settings as they are answer worst, the worst first."""
    run = result.own_runs[0]
    values = measure_run(truth, run)
    asked = {question.id: question for question in result.questions}
    order = sorted(values, key=lambda each: (values[each]["ndcg@10"], values[each]["mrr"]))
    worst = []
    for question_id in order[:WORST]:
        grades = truth.grades[question_id]
        found = run.rankings[question_id].pages
        keys = (truth.keys(question_id, [page.key])[0] for page in found)
        worst.append(
            WorstQuestion(
                id=question_id,
                text=asked[question_id].text,
                image=asked[question_id].image,
                ndcg=values[question_id]["ndcg@10"],
                wanted=sorted((key for key in grades if grades[key]), key=lambda key: -grades[key]),
                found=found[:10],
                relevant=[grades.get(key, 0) > 0 for key in keys][:10],
            )
        )
    return worst
