"""Train a quality predictor on labels, compare feature sets on unseen documents, and report."""

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cluster.errors import InvalidInput
from jobs.ocr_quality.fit import (
    CORRECTION,
    HIGH,
    LOW,
    BaseModels,
    Corrector,
    FeatureSet,
    Regression,
    fit,
    folds,
    metrics,
    serialised,
    try_out,
)
from jobs.ocr_quality.table import QualityTable, read_table
from models.ocr_quality.files import QualityCard, Source, save_model, to_root
from models.protocols import LateInteraction

MIN_ROWS, MIN_DOCUMENTS = 40, 10
POOLINGS = ("mean", "max", "concat", "attention")
SOURCES: tuple[Source, ...] = ("vectors", "hidden")


@dataclass(frozen=True)
class TrainRequest:
    """What to train. An empty `pooling` takes the best of the comparison."""

    labels: Path
    into: Path
    regression: Regression = "lightgbm"
    vectors: Source = "hidden"
    pooling: str = ""
    compare: bool = True


@dataclass
class TrainReport:
    """What the training found. All figures are of documents left out of the fit."""

    folder: str
    card: QualityCard
    rows: int
    documents: int
    comparison: list[dict[str, Any]] = field(default_factory=list)
    targets: dict[str, dict[str, float]] = field(default_factory=dict)
    coverage: float = 0.0
    remarks: list[str] = field(default_factory=list)
    y_true: list[float] = field(default_factory=list)
    y_pred: list[float] = field(default_factory=list)
    importance: list[tuple[str, float]] = field(default_factory=list)


def train_predictor(request: TrainRequest, late_interaction: LateInteraction | None) -> TrainReport:
    """Train and save a predictor. Without a late-interaction model it uses statistics alone.

    Raises NotFound or InvalidInput for labels that cannot be used.
    """
    table = read_table(request.labels, late_interaction)
    _check_enough(table)
    comparison = compare(table, request)
    chosen = _choice(table, request, comparison)
    return train(table, request, chosen, comparison)


def _check_enough(table: QualityTable) -> None:
    documents = len(np.unique(table.documents))
    if len(table) < MIN_ROWS or documents < MIN_DOCUMENTS:
        raise InvalidInput(
            f"there are labels of {len(table)} page variants of {documents} documents; at least "
            f"{MIN_ROWS} of {MIN_DOCUMENTS} are needed: label more documents, or more variants"
        )


def feature_sets(table: QualityTable) -> list[FeatureSet]:
    """Statistics, and with a late-interaction model every pooling, alone and beside them."""
    pooled = [(source, pooling) for source in SOURCES for pooling in POOLINGS]
    if not table.pooled:
        return [FeatureSet(True)]
    alone = [FeatureSet(False, source, pooling) for source, pooling in pooled]
    return [FeatureSet(True), *alone, *(replace(each, statistics=True) for each in alone)]


def compare(table: QualityTable, request: TrainRequest) -> list[dict[str, Any]]:
    """Figures of every feature set for CER, the mean of all labels first."""
    cer = table.labels["cer"]
    rows: list[dict[str, Any]] = [
        {"features": "the mean of all labels", **metrics(cer, np.full(len(cer), cer.mean()))}
    ]
    base = base_models(table, "cer", request.regression)
    for each in feature_sets(table) if request.compare else [FeatureSet(True)]:
        vectors = pooled(table, each)
        y_pred = try_out(base, vectors, statistics=each.statistics)
        width = 0 if vectors is None else vectors.shape[1]
        width += len(table.names) if each.statistics else 0
        rows.append({"features": str(each), "width": width, **metrics(cer, y_pred)})
    return rows


def base_models(table: QualityTable, target: str, regression: Regression) -> BaseModels:
    """Regressors on a table's statistics for "cer" or "wer"."""
    root = to_root(table.labels[target])
    return BaseModels(table.statistics, root, table.documents, regression)


def pooled(table: QualityTable, features: FeatureSet) -> np.ndarray | None:
    """Return the vectors of a feature set, float32[n, d]; None where it has none."""
    return table.vectors(features.vectors, features.pooling) if features.vectors else None


def remarks(comparison: list[dict[str, Any]]) -> list[str]:
    """In words, what pooled vectors are worth here; said also where it is nothing."""
    mae = {str(row["features"]): float(row["mae"]) for row in comparison}
    base = mae.get("statistics")
    if base is None or len(mae) < 3:
        return []
    sentences = []
    for source, name in (("vectors", "projected vectors"), ("hidden", "states before projection")):
        alone = {key: value for key, value in mae.items() if key.startswith(f"{source} ")}
        both = {
            key: value for key, value in mae.items() if key.startswith(f"statistics + {source} ")
        }
        best, beside = min(alone.values()), min(both.values())
        verb = "lose to" if best > base else "beat"
        sentences.append(
            f"Pooled {name} alone {verb} image statistics alone: MAE {best:.4f} against {base:.4f}."
        )
        verb = "improves" if beside < base else "does not improve"
        sentences.append(
            f"Adding pooled {name} {verb} image statistics: MAE {beside:.4f} against {base:.4f}."
        )
    narrow = min(value for key, value in mae.items() if key.startswith("vectors "))
    wide = min(value for key, value in mae.items() if key.startswith("hidden "))
    verb = "lose to" if narrow > wide else "are no worse than"
    sentences.append(
        f"Projected vectors, pooled, {verb} the wider states before projection: MAE {narrow:.4f} "
        f"against {wide:.4f}."
    )
    return sentences


def _choice(
    table: QualityTable, request: TrainRequest, comparison: list[dict[str, Any]]
) -> FeatureSet:
    if not table.pooled or not request.vectors:
        return FeatureSet(True)
    if request.pooling:
        if request.pooling not in (*POOLINGS, "std"):
            raise InvalidInput(f"there is no pooling {request.pooling!r}: {', '.join(POOLINGS)}")
        return FeatureSet(True, request.vectors, request.pooling)
    start = f"statistics + {request.vectors} "
    tried = [row for row in comparison if str(row["features"]).startswith(start)]
    best = min(tried, key=lambda row: float(row["mae"]), default={"features": f"{start}concat"})
    return FeatureSet(True, request.vectors, str(best["features"]).rpartition(" ")[2])


def train(
    table: QualityTable,
    request: TrainRequest,
    chosen: FeatureSet,
    comparison: list[dict[str, Any]],
) -> TrainReport:
    """Fit on all rows, after trying on unseen documents; save, and say how good it was."""
    vectors = pooled(table, chosen)
    everything = np.arange(len(table))
    parts: dict[str, Any] = {}
    targets, y_pred = {}, {}
    for target in ("cer", "wer"):
        base = base_models(table, target, request.regression)
        y_pred[target] = try_out(base, vectors)
        targets[target] = metrics(table.labels[target], y_pred[target])
        parts[target] = base.fitted(everything)
        if vectors is not None:
            parts[f"{target}+vectors"] = Corrector(base, vectors).correction(everything)
    root = to_root(table.labels["cer"])
    for name, quantile in (("cer_low", LOW), ("cer_high", HIGH)):
        parts[name] = fit(table.statistics, root, request.regression, quantile=quantile)
    widen, coverage = _interval(table)
    card = QualityCard(
        engine=table.engine[0],
        engine_version=table.engine[1],
        languages=table.languages,
        regression=request.regression,
        statistics=table.names,
        vectors=chosen.vectors,
        pooling=chosen.pooling,
        late_interaction=table.model[0] if chosen.vectors else "",
        late_interaction_revision=table.model[1] if chosen.vectors else "",
        correction=CORRECTION if chosen.vectors else 0.0,
        interval=round(HIGH - LOW, 3),
        widen=widen,
        version=datetime.now(UTC).strftime("%Y-%m-%d"),
        figures={
            "rows": len(table),
            "documents": len(np.unique(table.documents)),
            "unseen documents": {name: _rounded(each) for name, each in targets.items()},
            "interval coverage": round(coverage, 3),
        },
    )
    files = {}
    for name, model in parts.items():
        suffix, data = serialised(model)
        files[name + suffix] = data
    save_model(request.into, card, files)
    return TrainReport(
        folder=str(request.into),
        card=card,
        rows=len(table),
        documents=len(np.unique(table.documents)),
        comparison=[_rounded(row) for row in comparison],
        targets={name: _rounded(each) for name, each in targets.items()},
        coverage=coverage,
        remarks=remarks(comparison),
        y_true=table.labels["cer"].tolist(),
        y_pred=y_pred["cer"].tolist(),
        importance=_importance(parts["cer"], table.names),
    )


def _interval(table: QualityTable) -> tuple[float, float]:
    """Widen the interval until it holds its share of unseen documents; returns that share too.

    Source: Y. Romano et al., "Conformalized quantile regression", arXiv:1905.03222, with folds.
    """
    root = to_root(table.labels["cer"])
    low, high = np.zeros(len(root)), np.zeros(len(root))
    for seen, left in folds(table.documents, 3):
        for out, quantile in ((low, LOW), (high, HIGH)):
            model = fit(table.statistics[seen], root[seen], "lightgbm", quantile=quantile)
            out[left] = model.predict(table.statistics[left])
    beyond = np.maximum(low - root, root - high)
    widen = float(np.quantile(beyond, HIGH - LOW))
    return round(widen, 4), float(np.mean(beyond <= widen))


def _importance(model: Any, names: tuple[str, ...]) -> list[tuple[str, float]]:
    """Share of the gain of each statistic, the largest first; nothing for an SVR."""
    if not hasattr(model, "feature_importance"):
        return []
    gain = np.asarray(model.feature_importance("gain"), float)
    order = np.argsort(-gain)[:20]
    return [(names[index], float(gain[index] / max(gain.sum(), 1e-9))) for index in order]


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(v, 4) if isinstance(v, float) else v for name, v in row.items()}


def as_json(report: TrainReport) -> dict[str, Any]:
    """Return the report for programs, without the rows."""
    return {
        name: value for name, value in asdict(report).items() if name not in ("y_true", "y_pred")
    }
