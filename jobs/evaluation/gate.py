"""The gate for CI: metrics that an evaluation must reach."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.errors import InvalidInput
from jobs.evaluation.comparison import Column
from jobs.evaluation.metrics import find_metric


@dataclass(frozen=True)
class Bound:
    """A metric and the least that it may be, 0 to 1."""

    metric: str
    least: float


def read_bounds(texts: Sequence[str]) -> list[Bound]:
    """Return the bounds of `ndcg@10=0.6` each. Raises InvalidInput."""
    bounds = []
    for text in texts:
        name, _, value = text.partition("=")
        try:
            least = float(value)
        except ValueError:
            least = -1.0
        if not 0 <= least <= 1:
            raise InvalidInput(f"--fail-below {text!r}: write a metric and 0 to 1, as ndcg@10=0.6")
        bounds.append(Bound(find_metric(name), least))
    return bounds


def failed_bounds(bounds: Sequence[Bound], column: Column) -> list[str]:
    """Return a line for each bound that a run does not reach."""
    return [
        f"{bound.metric} of {column.run!r} is {mean:.4f}, below {bound.least:g}"
        for bound in bounds
        if (mean := column.cells[bound.metric].value.mean) < bound.least
    ]
