"""The sweep: weights that do best on one half of the questions, measured on the other half."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from cluster.errors import InvalidInput
from jobs.evaluation.comparison import measure_run
from jobs.evaluation.runs import Run
from jobs.evaluation.truth import Truth
from jobs.evaluation.variants import Variant, make_variant

WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
METRIC = "ndcg@10"
SEED = 0


@dataclass(frozen=True)
class SweepPoint:
    """One choice of the grid with its mean metric over the first half."""

    changes: dict[str, str]
    value: float


@dataclass(frozen=True)
class Sweep:
    """What was tried on one half of the questions, and what was chosen; best first."""

    metric: str
    points: list[SweepPoint]
    tuned_on: int  # questions
    reported_on: int

    @property
    def chosen(self) -> dict[str, str]:
        return self.points[0].changes


def sweep_variants(
    flags: Mapping[str, object], reranks: Sequence[str], depth: int
) -> dict[str, tuple[Variant, dict[str, str]]]:
    """Return the grid of dense_weight × rerank by name, what costs least first."""
    grid = {}
    for rerank in reranks:
        for weight in WEIGHTS:
            changes = {"mode": "hybrid", "rerank": rerank, "dense_weight": str(weight)}
            name = ",".join(f"{key}={value}" for key, value in changes.items())
            grid[name] = (make_variant(name, changes, flags, depth), changes)
    return grid


def choose_point(
    truth: Truth, runs: Sequence[Run], changes: Mapping[str, dict[str, str]], reported_on: int
) -> Sweep:
    """Return the sweep, the best point first; of equal ones that which costs less."""
    points, questions = [], 0
    for run in runs:
        values = [each[METRIC] for each in measure_run(truth, run).values()]
        questions = len(values)
        points.append(SweepPoint(changes[run.name], sum(values) / max(1, questions)))
    points.sort(key=lambda point: -point.value)  # stable: the grid has what costs less first
    return Sweep(METRIC, points, questions, reported_on)


def split_by_document(truth: Truth, seed: int = SEED) -> tuple[set[str], set[str]]:
    """Return two halves of the questions; those that share a relevant document stay together.

    Raises InvalidInput where that leaves a half empty.
    """
    groups = _groups(truth)
    random.Random(seed).shuffle(groups)
    halves: tuple[set[str], set[str]] = (set(), set())
    for group in sorted(groups, key=len, reverse=True):
        min(halves, key=len).update(group)
    if not all(halves):
        raise InvalidInput(
            "the questions cannot be split for --sweep: all are about the same documents; add "
            "questions about others"
        )
    return halves


def write_choice(choice: Mapping[str, str], path: Path) -> None:
    """Set what was chosen in quire.yaml; every other line stays as it is. Raises InvalidInput."""
    text = path.read_text() if path.is_file() else ""
    values = _read_yaml(text)
    if values is None:
        raise InvalidInput(f"{path} is no YAML of `name: value` lines: mend it before --write")
    lines = [
        line for line in text.splitlines() if line.partition(":")[0].strip("\"'") not in choice
    ]
    chosen = "\n".join(f"{name}: {value}" for name, value in choice.items())
    written = "\n".join([*lines, chosen, ""])
    if _read_yaml(written) != {**values, **yaml.safe_load(chosen)}:
        raise InvalidInput(f"{path} is not written line by line: set {', '.join(choice)} yourself")
    unfinished = path.with_suffix(".yaml.part")
    unfinished.write_text(written)
    unfinished.replace(path)


def _read_yaml(text: str) -> dict[str, object] | None:
    """Return the values of a file of settings; None where it is no such file."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    if values is None:
        return {}
    return values if isinstance(values, dict) else None


def _groups(truth: Truth) -> list[list[str]]:
    """Return the measured questions in groups that share no relevant document (union-find)."""
    parents = {question_id: question_id for question_id in truth.questions()}

    def root(question_id: str) -> str:
        while parents[question_id] != question_id:
            parents[question_id] = parents[parents[question_id]]
            question_id = parents[question_id]
        return question_id

    first_with: dict[str, str] = {}
    for question_id in parents:
        for key, grade in truth.grades[question_id].items():
            if grade:
                document = key if question_id in truth.by_document else key.rpartition(":")[0]
                parents[root(question_id)] = root(first_with.setdefault(document, question_id))
    groups = defaultdict(list)
    for question_id in parents:
        groups[root(question_id)].append(question_id)
    return list(groups.values())
