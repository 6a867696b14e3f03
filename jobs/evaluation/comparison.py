"""Runs beside each other: every metric of each, and its difference to the first run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.evaluation.bootstrap import Difference, Interval, mean_intervals, paired_differences
from jobs.evaluation.metrics import METRICS, Values, measure_rankings, to_matrix
from jobs.evaluation.runs import Run
from jobs.evaluation.truth import Truth

STAGES = ("embed", "search", "rerank")
TOTAL = "total"


@dataclass(frozen=True)
class Cell:
    """One metric of one run; the difference to the first run, over the questions of both."""

    value: Interval
    difference: Difference | None


@dataclass(frozen=True)
class Column:
    """The metrics of one run; `common`: how many of its questions the first run has, too."""

    run: str
    questions: int
    common: int
    cells: dict[str, Cell]  # by metric


@dataclass(frozen=True)
class Latency:
    """Percentiles of one stage of a search, in ms."""

    p50_ms: float
    p95_ms: float


def measure_run(truth: Truth, run: Run) -> Values:
    """Return every metric of each question of a run that has something relevant."""
    rankings = {
        question_id: truth.keys(question_id, (page.key for page in ranking.pages))
        for question_id, ranking in run.rankings.items()
    }
    return measure_rankings(truth.grades, rankings)


def compare_runs(truth: Truth, runs: Sequence[Run]) -> list[Column]:
    """Return a column for each run."""
    first: Values | None = None
    columns = []
    for run in runs:
        values = measure_run(truth, run)
        differences: list[Difference] | None = None
        common = [each for each in values if first is None or each in first]
        if first is None:
            first = values
        elif common:
            differences = paired_differences(to_matrix(values, common), to_matrix(first, common))
        intervals = mean_intervals(to_matrix(values, list(values)))
        cells = {
            name: Cell(intervals[place], differences[place] if differences else None)
            for place, name in enumerate(METRICS)
        }
        columns.append(Column(run.name, len(values), len(common), cells))
    return columns


def stage_latencies(run: Run) -> dict[str, Latency]:
    """Return the percentiles of each stage that ran, and of all together."""
    timed = [ranking.seconds for ranking in run.rankings.values() if ranking.seconds]
    by_stage = {
        stage: [seconds[stage] for seconds in timed if stage in seconds] for stage in STAGES
    }
    by_stage[TOTAL] = [sum(seconds.values()) for seconds in timed]
    return {
        stage: Latency(*(float(each) * 1000 for each in np.percentile(seconds, (50, 95))))
        for stage, seconds in by_stage.items()
        if seconds
    }
