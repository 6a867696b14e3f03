"""How well the quality predictor predicts OCR: feature sets, unseen kinds of pages, held-out sets.

    python -m benchmarks.quality [LABELS] [--heldout LABELS …] [--statistics-only]

LABELS is what `quire quality label` made; models/checkpoints/ocr-quality/README.md says of
what. "Unseen kind": trained on all kinds of pages but one, tried on that one; kinds are the names
of the documents up to the first dash or digit. HELDOUT is tried with the shipped predictor as it
is.
"""

import argparse
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cluster.settings import load_settings
from jobs.ocr_quality.fit import Corrector, FeatureSet, metrics
from jobs.ocr_quality.table import QualityTable, read_table
from jobs.ocr_quality.train import TrainRequest, base_models, compare, feature_sets, pooled
from models.late_interaction.model import ColPaliModel
from models.ocr_quality.features import image_statistics
from models.ocr_quality.files import QualityModel, load_model, to_rate
from models.ocr_quality.predictor import SHIPPED_FOLDER
from models.options import LateInteractionOptions
from models.protocols import LateInteraction

COLUMNS = ("mae", "of_mean", "rmse", "spearman", "auroc", "calibration")
MIN_ROWS_OF_A_KIND = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("labels", type=Path, nargs="?", help="made by `quire quality label`")
    parser.add_argument("--heldout", type=Path, action="append", default=[])
    parser.add_argument("--model", type=Path, default=SHIPPED_FOLDER)
    parser.add_argument("--statistics-only", action="store_true", help="without multi-vectors")
    parser.add_argument("--no-compare", action="store_true")
    args = parser.parse_args()
    _seconds()
    late: LateInteraction | None = None
    if not args.statistics_only:
        late = ColPaliModel(LateInteractionOptions.from_settings(load_settings()))
    if args.labels:
        table = read_table(args.labels, late)
        print(f"\n{len(table)} page variants of {len(np.unique(table.documents))} documents")
        if not args.no_compare:
            request = TrainRequest(args.labels, args.labels)
            _print("unseen documents, all kinds", compare(table, request))
        _unseen_kinds(table)
    for folder in args.heldout:
        _held_out(folder, load_model(args.model), late)


def _seconds() -> None:
    """What the statistics of a page of one megapixel cost."""
    image = Image.new("L", (880, 1240), 245)
    font = ImageFont.load_default(15)
    for top in range(60, 1160, 24):
        ImageDraw.Draw(image).text(
            (60, top), "what a scanned page says, line by line " * 3, 20, font
        )
    page = np.asarray(image)
    image_statistics(page)
    started = time.process_time()
    for _ in range(10):
        image_statistics(page)
    ms = (time.process_time() - started) * 100
    print(f"statistics of a page of {page.size / 1e6:.2f} megapixels: {ms:.0f} ms of CPU")


def kind_of(source: str) -> str:
    """What kind of page a document is, by its name."""
    return re.split(r"[-\d.]", Path(source).name)[0] or Path(source).suffix.lstrip(".")


def _unseen_kinds(table: QualityTable) -> None:
    base = base_models(table, "cer", "lightgbm")
    kinds = np.array([kind_of(source) for source in table.sources])
    for kind in sorted(set(kinds)):
        test = np.flatnonzero(kinds == kind)
        if len(test) < MIN_ROWS_OF_A_KIND:
            continue
        train = np.flatnonzero(kinds != kind)
        rows: list[dict[str, Any]] = []
        y_true = table.labels["cer"][test]
        rows.append(
            {"features": "the mean of the others", **metrics(y_true, _mean(table, train, test))}
        )
        for each in _few(feature_sets(table)):
            y_pred = to_rate(Corrector(base, pooled(table, each)).predict(train, test)).astype(
                float
            )
            rows.append({"features": str(each), **metrics(y_true, y_pred)})
        _print(f"unseen kind: {kind} ({len(test)} page variants)", rows)


def _mean(table: QualityTable, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return np.full(len(test), table.labels["cer"][train].mean())


def _few(sets: Iterable[FeatureSet]) -> list[FeatureSet]:
    """Statistics, and statistics with each pooling; vectors alone are compared elsewhere."""
    return [each for each in sets if each.statistics]


def _held_out(folder: Path, model: QualityModel, late: LateInteraction | None) -> None:
    card = model.card
    table = read_table(folder, late if card.vectors else None)
    vectors = table.vectors(card.vectors, card.pooling) if card.vectors else None
    rates = model.rates(table.statistics, vectors)
    alone = model.rates(table.statistics, None)
    cer = table.labels["cer"]
    inside = float(np.mean((cer >= rates.cer_low) & (cer <= rates.cer_high)))
    rows: list[dict[str, Any]] = [
        {"features": "as shipped", **metrics(cer, rates.cer.astype(float))},
        {"features": "its statistics alone", **metrics(cer, alone.cer.astype(float))},
    ]
    _print(f"{folder}: {len(cer)} page variants, interval holds {inside:.0%}", rows)


def _print(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}\n{'':34}" + "".join(f"{name:>12}" for name in COLUMNS))
    for row in rows:
        print(f"{row['features']:34}" + "".join(f"{row[name]:12.4f}" for name in COLUMNS))


if __name__ == "__main__":
    main()
