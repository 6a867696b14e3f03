"""Plots of an evaluation as SVG, to be put into the page."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jobs.evaluation.report import TruthTable

SHOWN = ("hit@1", "hit@5", "recall@10", "mrr", "map", "ndcg@5", "ndcg@10")


def draw_metrics(table: TruthTable) -> str:
    """Return an SVG of the main metrics with their intervals, a bar for each run."""

    def draw(axes: Any) -> None:
        width = 0.8 / len(table.columns)
        for number, column in enumerate(table.columns):
            values = [column.cells[name].value for name in SHOWN]
            means = np.array([value.mean for value in values])
            lows = means - [value.low for value in values]
            highs = np.array([value.high for value in values]) - means
            places = np.arange(len(SHOWN)) + (number - (len(table.columns) - 1) / 2) * width
            axes.bar(places, means, width * 0.92, label=column.run)
            errors = np.clip([lows, highs], 0, None)
            axes.errorbar(places, means, errors, fmt="none", ecolor="#333", elinewidth=0.8)
        axes.set_xticks(range(len(SHOWN)), SHOWN)
        axes.set_ylim(0, 1)
        axes.set_title("Means over questions, with 95 % intervals")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

    return _svg(draw, f"metrics {table.truth}")


def draw_hits(table: TruthTable) -> str:
    """Return an SVG of hit@k over k, a line for each run."""
    ks = (1, 3, 5, 10)

    def draw(axes: Any) -> None:
        for column in table.columns:
            values = [column.cells[f"hit@{k}"].value.mean for k in ks]
            axes.plot(ks, values, marker="o", label=column.run)
        axes.set_xticks(ks)
        axes.set_ylim(0, 1)
        axes.set_xlabel("k")
        axes.set_title("Questions with a relevant page among the first k")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

    return _svg(draw, f"hits {table.truth}")


def draw_plots(tables: Sequence[TruthTable]) -> list[list[str]]:
    """Return the SVGs of each ground truth."""
    return [[draw_metrics(table), draw_hits(table)] for table in tables]


def _svg(draw: Callable[[Any], None], salt: str) -> str:
    """Return the `<svg>` element; `salt` keeps ids of one page's plots apart."""
    import matplotlib
    from matplotlib.figure import Figure

    options: Any = {"svg.fonttype": "none", "svg.hashsalt": salt, "text.parse_math": False}
    with matplotlib.rc_context(options):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
