"""The training of a quality predictor as a page to read: tables, and plots as PNG beside it."""

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np

from jobs.ocr_quality.fit import HARD_CER
from jobs.ocr_quality.train import TrainReport

INK, ACCENT, PALE = "#1d3557", "#c8553d", "#a8bccf"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2730; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } img { max-width: 100%; }
td, th { padding: .25rem .7rem; border-bottom: 1px solid #d5dde4; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr.chosen { background: #fdf1ea; }
h2 { margin-top: 2rem; }
"""
FIGURES = (
    ("mae", "MAE"),
    ("of_mean", "MAE / mean's"),
    ("rmse", "RMSE"),
    ("spearman", "Spearman"),
    ("auroc", f"AUROC CER > {HARD_CER:g}"),
    ("calibration", "calibration error"),
)


def write_report(report: TrainReport, folder: Path) -> Path:
    """Write report.html, which needs no other file, and its plots as PNG; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = {"predictions": _predictions(report), "features": _features(report)}
    for name, data in plots.items():
        (folder / f"{name}.png").write_bytes(data)
    page = folder / "report.html"
    page.write_text(_page(report, plots))
    return page


def _page(report: TrainReport, plots: dict[str, bytes]) -> str:
    card = report.card
    chosen = "statistics" + (f" + {card.vectors} {card.pooling}" if card.vectors else "")
    facts = [
        ("engine", f"{card.engine} {card.engine_version} ({', '.join(card.languages)})"),
        ("labels", f"{report.rows} page variants of {report.documents} documents"),
        ("regression", card.regression),
        ("features", chosen),
        ("late-interaction model", f"{card.late_interaction} {card.late_interaction_revision}"),
        (
            f"interval of {card.interval:.0%}",
            f"holds {report.coverage:.1%} of unseen pages (widened by {card.widen:g})",
        ),
    ]
    remarks = "".join(f"<p>{html.escape(text)}</p>" for text in report.remarks)
    targets = [{"features": name.upper(), **row} for name, row in report.targets.items()]
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<title>OCR quality predictor</title><style>{STYLE}</style>
<h1>OCR quality predictor</h1>
<table>{"".join(_row((k, v)) for k, v in facts if v.strip())}</table>
<p>All figures are of documents that were left out of the fit: folds never part the pages and
variants of one document. Calibration error: over ten equal groups by what was predicted, how far
the mean prediction lies from the mean truth.</p>
<h2>The predictor</h2>{_table(targets, "")}{_image(plots["predictions"], "predictions")}
<h2>Feature sets</h2>{_table(report.comparison, chosen)}{remarks}
{_image(plots["features"], "feature sets and statistics")}
</html>
"""


def _table(rows: list[dict[str, Any]], chosen: str) -> str:
    head = "".join(f"<th>{label}</th>" for label in ("", *(label for _, label in FIGURES)))
    body = []
    for row in rows:
        cells = [str(row["features"]), *(f"{row[name]:.4f}" for name, _ in FIGURES)]
        body.append(_row(cells, "chosen" if row["features"] == chosen else ""))
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _row(cells: Any, kind: str = "") -> str:
    inside = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
    return f'<tr class="{kind}">{inside}</tr>' if kind else f"<tr>{inside}</tr>"


def _image(data: bytes, what: str) -> str:
    return f'<img alt="{what}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def _predictions(report: TrainReport) -> bytes:
    from matplotlib.figure import Figure

    y_true, y_pred = np.array(report.y_true), np.array(report.y_pred)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot((0, 1), (0, 1), color=PALE, linewidth=1)
    left.scatter(y_pred, y_true, s=7, alpha=0.35, color=INK, edgecolors="none")
    left.set(xlabel="predicted CER", ylabel="true CER", title="Unseen documents, one dot a page")
    groups = [group for group in np.array_split(np.argsort(y_pred), 10) if len(group)]
    right.plot((0, 1), (0, 1), color=PALE, linewidth=1)
    right.plot(
        [y_pred[group].mean() for group in groups],
        [y_true[group].mean() for group in groups],
        color=ACCENT,
        marker="o",
    )
    right.set(
        xlabel="mean predicted CER", ylabel="mean true CER", title="Calibration, ten equal groups"
    )
    for axes in (left, right):
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _features(report: TrainReport) -> bytes:
    from matplotlib.figure import Figure

    rows = report.comparison
    height = 1.2 + 0.27 * max(len(rows), len(report.importance))
    figure = Figure(figsize=(10, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    _bars(left, [(str(row["features"]), float(row["mae"])) for row in rows], ACCENT)
    left.set(title="MAE of CER by feature set (less is better)")
    _bars(right, report.importance, INK)
    right.set(title="Statistics by their share of the gain")
    return _png(figure)


def _bars(axes: Any, rows: list[tuple[str, float]], colour: str) -> None:
    places = np.arange(len(rows))
    axes.barh(places, [value for _, value in rows], color=colour, height=0.7)
    axes.set_yticks(places, [name for name, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
