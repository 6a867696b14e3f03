"""Training of the predictor, and the files that it makes."""

from pathlib import Path

import numpy as np
import pytest

from cluster.errors import ModelUnavailable, NotFound
from jobs.ocr_quality.degrade import Effect, degrade
from jobs.ocr_quality.report import write_report
from jobs.ocr_quality.table import read_table
from jobs.ocr_quality.train import TrainRequest, train_predictor
from models.ocr_quality.files import MODEL_FILE, load_model
from models.ocr_quality.predictor import QualityPredictor
from tests.support.documents import png
from tests.support.ocr_quality import Tokens, a_page


@pytest.mark.parametrize("regression", ["lightgbm", "svr"])
def test_a_predictor_is_trained_saved_and_used(
    labels: Path, tmp_path: Path, regression: str
) -> None:
    request = TrainRequest(labels, tmp_path, regression, pooling="mean", compare=False)  # type: ignore[arg-type]
    report = train_predictor(request, Tokens())  # type: ignore[arg-type]
    assert {file.suffix for file in tmp_path.iterdir()} <= {".json", ".txt", ".skops"}
    card = load_model(tmp_path).card
    assert (card.engine, card.languages) == ("tesseract", ("eng",))
    assert (card.vectors, card.pooling, card.late_interaction) == ("hidden", "mean", "patches")
    assert report.targets["cer"]["mae"] <= 1
    predictor = QualityPredictor(tmp_path, Tokens())  # type: ignore[arg-type]
    sharp, spoilt = a_page(1)[0], degrade(np.asarray(a_page(1)[0]), [Effect("blur", 1)], 1)
    one, two = predictor.predict([png(sharp), np.stack([spoilt] * 3, -1)])
    assert one.cer < two.cer
    for found in (one, two):
        assert 0 <= found.cer_low <= found.cer <= found.cer_high <= 1
        assert found.engine == f"tesseract {card.engine_version}"
    page = write_report(report, tmp_path / "report")
    assert "data:image/png" in page.read_text()
    assert (tmp_path / "report" / "predictions.png").stat().st_size > 1000


def test_another_late_interaction_model_is_refused(labels: Path, tmp_path: Path) -> None:
    train_predictor(TrainRequest(labels, tmp_path, pooling="mean", compare=False), Tokens())  # type: ignore[arg-type]
    with pytest.raises(ModelUnavailable, match="patches@1"):
        QualityPredictor(tmp_path, None)
    other = Tokens()
    other.spec.revision = "2"
    try:
        with pytest.raises(ModelUnavailable, match="train it again"):
            QualityPredictor(tmp_path, other)  # type: ignore[arg-type]
    finally:
        other.spec.revision = "1"


def test_features_are_measured_once(labels: Path) -> None:
    first = read_table(labels, None)
    files = sorted((labels / "features").rglob("*.parquet"))
    second = read_table(labels, None)
    assert sorted((labels / "features").rglob("*.parquet")) == files
    assert np.array_equal(first.statistics, second.statistics)


def test_altered_files_are_refused(labels: Path, tmp_path: Path) -> None:
    train_predictor(TrainRequest(labels, tmp_path), None)
    assert not QualityPredictor(tmp_path, None).needs_vectors
    with (tmp_path / "cer.txt").open("a") as file:
        file.write("\n")
    with pytest.raises(ModelUnavailable, match="altered"):
        load_model(tmp_path)
    (tmp_path / MODEL_FILE).write_text("{}")
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        load_model(tmp_path)
    with pytest.raises(ModelUnavailable, match="quire quality train"):
        load_model(tmp_path / "nowhere")


def test_labels_are_needed(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="quire quality label"):
        train_predictor(TrainRequest(tmp_path, tmp_path), None)
