"""The quality predictor's file format: model.json and the regressors beside it; no pickle.

A folder holds `model.json` (what engine it predicts, from which features, how sure) and one file
for each regressor: LightGBM's own text, or skops for a support vector regression. The first
predict the square root of an error rate from image statistics; a second one, where there is one,
corrects it from pooled multi-vectors.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from cluster.errors import ModelUnavailable
from models.ocr_quality.features import FEATURES_VERSION

FORMAT = 1
MODEL_FILE = "model.json"
MAX_FILE_BYTES = 64 * 2**20
TARGETS = ("cer", "wer", "cer_low", "cer_high")
# What a support vector regression with scaled inputs consists of, beyond what skops trusts itself.
SVR_TYPES = frozenset({"sklearn.pipeline.Pipeline", "sklearn.svm._classes.SVR"})

Source = Literal["", "vectors", "hidden"]  # of the multi-vectors: as stored, or before projection


class Regressor(Protocol):
    """float[rows, features] → float[rows]"""

    def predict(self, features: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class QualityCard:
    """Everything of model.json but the files' checksums."""

    engine: str
    engine_version: str
    languages: tuple[str, ...]
    regression: Literal["lightgbm", "svr"]
    statistics: tuple[str, ...]  # names of image statistics, in the order of the features
    vectors: Source = ""
    pooling: str = ""
    late_interaction: str = ""
    late_interaction_revision: str = ""
    correction: float = 0.0  # share of the second regressor's word that counts
    interval: float = 0.8  # how many of the true error rates lie within the interval
    widen: float = 0.0  # of roots, what either end needs for the interval to be that sure
    version: str = "1"
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QualityRates:
    """Expected error rates of pages, each float32[pages] in [0, 1]."""

    cer: np.ndarray
    cer_low: np.ndarray
    cer_high: np.ndarray
    wer: np.ndarray


class QualityModel:
    """Regressors and what is known of them. `parts` is keyed "cer", "cer+vectors", …"""

    def __init__(self, card: QualityCard, parts: Mapping[str, Regressor]) -> None:
        self.card = card
        self._parts = parts

    def rates(self, statistics: np.ndarray, vectors: np.ndarray | None) -> QualityRates:
        """statistics float[pages, names], pooled vectors float[pages, d] → error rates."""
        root = {target: self._root(target, statistics, vectors) for target in TARGETS}
        cer, widen = to_rate(root["cer"]), self.card.widen
        return QualityRates(
            cer=cer,
            cer_low=np.minimum(to_rate(root["cer_low"] - widen), cer),
            cer_high=np.maximum(to_rate(root["cer_high"] + widen), cer),
            wer=to_rate(root["wer"]),
        )

    def _root(self, target: str, statistics: np.ndarray, vectors: np.ndarray | None) -> np.ndarray:
        root = np.asarray(self._parts[target].predict(statistics))
        correction = f"{target.partition('_')[0]}+vectors"  # the interval moves with its middle
        if vectors is not None and correction in self._parts:
            root = root + self.card.correction * self._parts[correction].predict(vectors)
        return np.asarray(root)


def to_rate(root: np.ndarray) -> np.ndarray:
    """Turn what regressors predict into an error rate, float32 in [0, 1]."""
    return np.asarray(np.clip(root, 0, 1) ** 2, np.float32)


def to_root(rate: np.ndarray) -> np.ndarray:
    """Return an error rate → what regressors learn: its root, for near 0 small steps count most."""
    return np.sqrt(np.asarray(rate, np.float64))


def save_model(folder: Path, card: QualityCard, files: Mapping[str, bytes]) -> None:
    """Write a predictor; `files` are its regressors by name: PART.txt or PART.skops."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for name, data in files.items():
        (folder / name).write_bytes(data)
        sums[name] = hashlib.sha256(data).hexdigest()
    document = {
        "format": FORMAT,
        "features_version": FEATURES_VERSION,
        **asdict(card),
        "files": sums,
    }
    (folder / MODEL_FILE).write_text(json.dumps(document, indent=1) + "\n")


def load_model(folder: Path) -> QualityModel:
    """Read a predictor. Raises ModelUnavailable where a file is missing, altered or not ours."""
    document = _document(folder)
    sums = document.pop("files")
    card = _card(document, folder)
    parts = {}
    for name, digest in sums.items():
        part, _, suffix = str(name).rpartition(".")
        data = _bytes(folder / Path(name).name)
        if hashlib.sha256(data).hexdigest() != digest:
            raise ModelUnavailable(f"{folder / name} was altered: train the predictor again")
        parts[part] = _Trees(data) if suffix == "txt" else _svr(data, folder / name)
    if missing := set(TARGETS) - set(parts):
        raise ModelUnavailable(f"{folder} has no model for {', '.join(sorted(missing))}")
    return QualityModel(card, parts)


def load_card(folder: Path) -> QualityCard:
    """Read what a predictor is, without loading it. Raises ModelUnavailable."""
    document = _document(folder)
    document.pop("files")
    return _card(document, folder)


def _document(folder: Path) -> dict[str, Any]:
    file = folder / MODEL_FILE
    if not file.is_file():
        raise ModelUnavailable(
            f"{folder} holds no quality predictor ({MODEL_FILE} is missing): quire quality train, "
            "or leave quality_model empty for the one that comes with Quire"
        )
    try:
        document = json.loads(_bytes(file))
        if document["format"] != FORMAT or document["features_version"] != FEATURES_VERSION:
            raise ModelUnavailable(f"{file} is of another version of Quire: train it again")
        if not isinstance(document["files"], dict):
            raise ValueError("files")
    except (ValueError, KeyError, TypeError) as error:
        raise ModelUnavailable(f"{file} cannot be read: {error}") from error
    return dict(document)


def _card(document: dict[str, Any], folder: Path) -> QualityCard:
    names = QualityCard.__dataclass_fields__
    try:
        fields = {name: document[name] for name in names if name in document}
        fields |= {name: tuple(fields[name]) for name in ("languages", "statistics")}
        return QualityCard(**fields)
    except (KeyError, TypeError) as error:
        raise ModelUnavailable(f"{folder / MODEL_FILE} is incomplete: {error}") from error


def _bytes(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ModelUnavailable(f"{file} is over {MAX_FILE_BYTES:,} bytes")
        return file.read_bytes()
    except OSError as error:
        raise ModelUnavailable(f"{file} cannot be read: {error.strerror}") from error


class _Trees:
    """LightGBM on one thread: a page is a small input, and others need the cores."""

    def __init__(self, data: bytes) -> None:
        import lightgbm

        try:
            self._booster = lightgbm.Booster(model_str=data.decode("ascii"))
        except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
            raise ModelUnavailable(f"a LightGBM model cannot be read: {error}") from error

    def predict(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self._booster.predict(features, num_threads=1))


def _svr(data: bytes, file: Path) -> Regressor:
    import skops.io

    unknown = set(skops.io.get_untrusted_types(data=data)) - SVR_TYPES
    if unknown:
        raise ModelUnavailable(f"{file} holds more than a regression: {sorted(unknown)}")
    return skops.io.loads(data, trusted=sorted(SVR_TYPES))  # type: ignore[no-any-return]
