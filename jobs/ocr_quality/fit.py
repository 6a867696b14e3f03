"""Fit the regressors of a quality predictor, and try them on documents that they have not seen.

Folds never part the rows of one document. What is learnt is the root of an error rate, from image
statistics; from pooled multi-vectors, what the statistics leave unexplained.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from models.ocr_quality.files import Regressor, Source, to_rate

Regression = Literal["lightgbm", "svr"]
FOLDS = 5
INNER_FOLDS = 3
HARD_CER = 0.2  # a page above it counts as hard in AUROC
CORRECTION = 0.5  # of what the vectors say: how pages look transfers less well than statistics
LOW, HIGH = 0.1, 0.9  # quantiles: the interval holds 80 %
# Small trees, few features each: there are a few thousand rows, and new documents look different.
TREES: dict[str, Any] = {
    "objective": "regression",
    "n_estimators": 350,
    "learning_rate": 0.03,
    "num_leaves": 12,
    "min_child_samples": 15,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "max_bin": 127,
    "seed": 7,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
# Multi-vectors are many and alike: fewer, smaller and slower trees.
VECTOR_TREES = TREES | {
    "n_estimators": 200,
    "num_leaves": 8,
    "feature_fraction": 0.1,
    "lambda_l2": 20.0,
    "max_bin": 63,
}


@dataclass(frozen=True)
class FeatureSet:
    """What a predictor may look at."""

    statistics: bool
    vectors: Source = ""
    pooling: str = ""

    def __str__(self) -> str:
        pooled = f"{self.vectors} {self.pooling}" if self.vectors else ""
        return " + ".join(part for part in ("statistics" * self.statistics, pooled) if part)


def fit(
    features: np.ndarray,
    root: np.ndarray,
    regression: Regression,
    *,
    wide: bool = False,
    quantile: float | None = None,
) -> Regressor:
    """Fit one regressor. `wide`: the features are pooled vectors. A quantile is LightGBM's."""
    if regression == "svr" and quantile is None:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVR

        model = make_pipeline(StandardScaler(), SVR(C=0.3 if wide else 1.0, epsilon=0.03))
        return model.fit(features, root)  # type: ignore[no-any-return]
    import lightgbm

    options = VECTOR_TREES if wide else TREES
    if quantile is not None:
        options = options | {"objective": "quantile", "alpha": quantile}
    rounds = int(options["n_estimators"])
    svr_options = {name: value for name, value in options.items() if name != "n_estimators"}
    return cast(Regressor, lightgbm.train(svr_options, lightgbm.Dataset(features, root), rounds))


def serialised(model: Regressor) -> tuple[str, bytes]:
    """Return a regressor as bytes without pickle, and the suffix that says how."""
    if hasattr(model, "model_to_string"):
        return ".txt", model.model_to_string().encode("ascii")
    import skops.io

    return ".skops", bytes(skops.io.dumps(model))


def folds(documents: np.ndarray, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, test) row numbers; the rows of one document are all on one side."""
    from sklearn.model_selection import GroupKFold

    count = min(count, len(np.unique(documents)))
    splitter = GroupKFold(n_splits=count, shuffle=True, random_state=7)
    return list(splitter.split(documents, groups=documents))


def unseen(
    fit_and_predict: Callable[[np.ndarray, np.ndarray], np.ndarray],
    documents: np.ndarray,
    count: int = FOLDS,
) -> np.ndarray:
    """Predict every row by `fit_and_predict(train, test)` with its document left out."""
    out = np.zeros(len(documents))
    for train, test in folds(documents, count):
        out[test] = fit_and_predict(train, test)
    return out


class BaseModels:
    """Regressors on statistics, and their errors on documents they have not seen; fitted once."""

    def __init__(
        self,
        statistics: np.ndarray,
        root: np.ndarray,
        documents: np.ndarray,
        regression: Regression,
    ) -> None:
        self.statistics, self.root = statistics, root
        self.documents, self.regression = documents, regression
        self._fitted: dict[bytes, Regressor] = {}
        self._errors: dict[bytes, np.ndarray] = {}

    def fitted(self, train: np.ndarray) -> Regressor:
        """Return the regressor that learnt from these rows."""
        key = train.tobytes()
        if key not in self._fitted:
            self._fitted[key] = fit(self.statistics[train], self.root[train], self.regression)
        return self._fitted[key]

    def errors(self, train: np.ndarray) -> np.ndarray:
        """Return the residual of each of these rows when the row's document is left out."""
        key = train.tobytes()
        if key not in self._errors:
            y_pred = unseen(
                lambda seen, left: self.predict(train[seen], train[left]),
                self.documents[train],
                INNER_FOLDS,
            )
            self._errors[key] = self.root[train] - y_pred
        return self._errors[key]

    def predict(self, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        return np.asarray(self.fitted(train).predict(self.statistics[test]))


@dataclass(frozen=True)
class Corrector:
    """A regressor on statistics, corrected from vectors where there are any."""

    base: BaseModels
    vectors: np.ndarray | None

    def correction(self, train: np.ndarray) -> Regressor:
        """Learns the errors that the base makes on documents it has not seen: those to come."""
        if self.vectors is None:
            raise ValueError("nothing to correct from")
        errors = self.base.errors(train)
        return fit(self.vectors[train], errors, self.base.regression, wide=True)

    def predict(self, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        """Roots of the error rates of `test`, learnt from `train`."""
        root = self.base.predict(train, test)
        if self.vectors is not None:
            correction = self.correction(train).predict(self.vectors[test])
            root = root + CORRECTION * np.asarray(correction)
        return root


def metrics(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, float]:
    """Compute MAE, RMSE, Spearman, AUROC for CER > 0.2 and calibration error of error rates.

    `calibration`: over ten equal groups by y_pred, the mean distance of a group's mean y_pred from
    its mean y_true. `of_mean`: MAE / MAE of always predicting the mean. NaN where undefined.
    """
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    hard = y_true > HARD_CER
    both = 0 < hard.sum() < len(hard)
    mae = float(np.abs(y_true - y_pred).mean())
    groups = np.array_split(np.argsort(y_pred), min(10, len(y_pred)))
    gaps = [abs(float(y_pred[group].mean() - y_true[group].mean())) for group in groups]
    varied = np.ptp(y_pred) > 0 and np.ptp(y_true) > 0
    return {
        "mae": mae,
        "rmse": float(np.sqrt(np.mean((y_true - y_pred) ** 2))),
        "spearman": float(spearmanr(y_true, y_pred).statistic) if varied else float("nan"),
        "auroc": float(roc_auc_score(hard, y_pred)) if both else float("nan"),
        "calibration": float(np.mean(gaps)),
        "of_mean": mae / max(1e-9, float(np.abs(y_true - y_true.mean()).mean())),
    }


def try_out(base: BaseModels, vectors: np.ndarray | None, *, statistics: bool = True) -> np.ndarray:
    """Rates that a feature set says of documents that it has not seen, float64[n]."""
    if statistics:
        y_pred = unseen(Corrector(base, vectors).predict, base.documents)
    elif vectors is None:
        raise ValueError("no features")
    else:
        wide = vectors

        def alone(train: np.ndarray, test: np.ndarray) -> np.ndarray:
            model = fit(wide[train], base.root[train], base.regression, wide=True)
            return np.asarray(model.predict(wide[test]))

        y_pred = unseen(alone, base.documents)
    return to_rate(y_pred).astype(float)
