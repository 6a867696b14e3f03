"""Labels and features of page variants as arrays: what a quality predictor is trained on.

Features are kept beside the labels, so that a second training takes them from there.
"""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cluster.errors import InvalidInput
from jobs.ocr_quality.label_store import LabelStore, TrainingRow
from jobs.progress import progress_view
from models.late_interaction.pooling import PagePooling, pool_tokens
from models.ocr_quality.features import FEATURES_VERSION, image_statistics
from models.ocr_quality.predictor import to_gray
from models.protocols import LateInteraction

BATCH_PAGES = 8
SOURCES = ("vectors", "hidden")
POOLED: tuple[PagePooling, ...] = ("mean", "max", "std", "attention")  # "concat" is made of them
CONCATENATED = ("mean", "max", "std")
SCHEMA = pa.schema([("id", pa.string()), ("values", pa.list_(pa.float32()))])


@dataclass(frozen=True)
class QualityTable:
    """Labelled page variants, one a row. `pooled` is keyed by source and pooling."""

    documents: np.ndarray  # str[n]: rows of one document never part
    sources: list[str]
    variants: np.ndarray  # int[n]
    labels: dict[str, np.ndarray]  # "cer", "wer", "recall", "field_accuracy" → float64[n]
    names: tuple[str, ...]  # of the statistics
    statistics: np.ndarray  # float32[n, names]
    pooled: dict[tuple[str, str], np.ndarray]  # ("hidden", "mean") → float32[n, d]
    engine: tuple[str, str]  # name and version
    languages: tuple[str, ...]
    model: tuple[str, str] = ("", "")  # name and revision of the late-interaction model

    def __len__(self) -> int:
        return len(self.documents)

    def vectors(self, source: str, pooling: str) -> np.ndarray:
        """Pooled multi-vectors, float32[n, d] or for "concat" float32[n, 3d]."""
        if pooling == "concat":
            return np.hstack([self.pooled[source, part] for part in CONCATENATED])
        return self.pooled[source, pooling]


@dataclass
class _Measured:
    """Counts for the progress display."""

    documents: int
    pages: int
    began: float
    documents_done: int = 0
    pages_done: int = 0
    failures: int = 0

    @property
    def documents_opened(self) -> int:
        return self.documents


class FeatureCache:
    """Features by row id, in a folder of Parquet files that only grows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.rows: dict[str, np.ndarray] = {}
        for file in sorted(folder.glob("*.parquet")):
            table = pq.read_table(file)
            values = table["values"].combine_chunks()
            flat = values.flatten().to_numpy().reshape(len(values), -1)
            self.rows.update(zip(table["id"].to_pylist(), flat, strict=True))

    def add(self, rows: dict[str, np.ndarray]) -> None:
        if not rows:
            return
        self.rows.update(rows)
        self._folder.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(
            [{"id": key, "values": value.tolist()} for key, value in rows.items()], schema=SCHEMA
        )
        pq.write_table(table, self._folder / f"features-{uuid.uuid4().hex}.parquet")


def read_table(folder: Path, late_interaction: LateInteraction | None) -> QualityTable:
    """Read labels and measure what has not been measured yet.

    Raises NotFound without labels, InvalidInput where they are of several engines.
    """
    store = LabelStore(folder)
    store.require()
    rows = sorted(store.rows(_COLUMNS), key=lambda row: str(row["id"]))
    rows = list({row["id"]: row for row in rows}.values())
    engines = {(row["engine"], row["engine_version"]) for row in rows}
    if len(engines) > 1:
        raise InvalidInput(f"{folder} has labels of {len(engines)} engines: one folder for each")
    statistics = FeatureCache(folder / "features" / f"statistics-{FEATURES_VERSION}")
    spec = late_interaction.spec if late_interaction else None
    model = (spec.name, spec.revision) if spec else ("", "")
    vectors = FeatureCache(folder / "features" / f"{model[0]}@{model[1]}"[:120])
    _measure(store, statistics, vectors, late_interaction, len(rows))
    names = tuple(image_statistics(np.zeros((32, 32), np.uint8)))
    keys = [str(row["id"]) for row in rows]
    return QualityTable(
        documents=np.array([row["document"] for row in rows]),
        sources=[str(row["source"]) for row in rows],
        variants=np.array([row["variant"] for row in rows]),
        labels={
            name: np.array([np.nan if row[name] is None else row[name] for row in rows], float)
            for name in ("cer", "wer", "recall", "field_accuracy")
        },
        names=names,
        statistics=np.stack([statistics.rows[key] for key in keys]),
        pooled=_pooled([vectors.rows[key] for key in keys]) if late_interaction else {},
        engine=next(iter(engines)),
        languages=tuple(sorted({str(row["languages"]) for row in rows})),
        model=model,
    )


_COLUMNS = [
    "id",
    "document",
    "source",
    "variant",
    "cer",
    "wer",
    "recall",
    "field_accuracy",
    "engine",
    "engine_version",
    "languages",
]


def _measure(
    store: LabelStore,
    statistics: FeatureCache,
    vectors: FeatureCache,
    late_interaction: LateInteraction | None,
    count: int,
) -> None:
    shown = _Measured(1, count, time.time())
    with progress_view("measuring pages") as view:
        for rows in _batches(store):
            lacking = [row for row in rows if row["id"] not in statistics.rows]
            statistics.add({row["id"]: _statistics(row) for row in lacking})
            lacking = [row for row in rows if row["id"] not in vectors.rows]
            if late_interaction and lacking:
                vectors.add(_embed(lacking, late_interaction))
            shown.pages_done += len(rows)
            view.update(shown)


def _batches(store: LabelStore) -> Iterator[list[TrainingRow]]:
    batch: list[TrainingRow] = []
    for row in store.rows(["id", "image"]):
        batch.append(row)
        if len(batch) == BATCH_PAGES:
            yield batch
            batch = []
    if batch:
        yield batch


def _statistics(row: TrainingRow) -> np.ndarray:
    return np.array(list(image_statistics(to_gray(row["image"])).values()), np.float32)


def _embed(rows: list[TrainingRow], model: LateInteraction) -> dict[str, np.ndarray]:
    """Return all poolings of both sources in one row of numbers, with their widths in front."""
    pages = model.embed_images(
        [Image.fromarray(to_gray(row["image"])).convert("RGB") for row in rows], hidden=True
    )
    matrices = {}
    for row, page in zip(rows, pages, strict=True):
        parts = [
            pool_tokens(tokens, pooling)
            for tokens in (page.vectors, page.hidden)
            for pooling in POOLED
            if tokens is not None
        ]
        widths = np.array([page.vectors.shape[1], parts[-1].size], np.float32)
        matrices[row["id"]] = np.concatenate([widths, *parts])
    return matrices


def _pooled(rows: list[np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    matrix = np.stack(rows)
    narrow, wide = (int(width) for width in matrix[0, :2])
    edges = np.cumsum([2, *[narrow] * len(POOLED), *[wide] * len(POOLED)])
    keys = [(source, pooling) for source in SOURCES for pooling in POOLED]
    return {
        key: matrix[:, start:end]
        for key, start, end in zip(keys, edges[:-1], edges[1:], strict=True)
    }
