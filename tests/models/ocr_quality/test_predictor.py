"""The shipped predictor."""

import numpy as np
import pytest
from PIL import Image

from cluster.settings import load_settings
from jobs.ocr_quality.degrade import Effect, degrade
from models.ocr_quality.files import load_model
from models.ocr_quality.predictor import SHIPPED_FOLDER, QualityPredictor, open_predictor, verdict
from tests.support.ocr_quality import a_page


@pytest.fixture(scope="session")
def shipped() -> QualityPredictor:
    predictor = open_predictor(load_settings())
    assert isinstance(predictor, QualityPredictor)
    return predictor


def test_the_shipped_predictor_knows_good_from_bad(shipped: QualityPredictor) -> None:
    image = a_page(4, size=24)[0]
    gray = np.asarray(image)
    bad = [
        degrade(gray, [Effect("low_resolution", 1)], 1),
        degrade(gray, [Effect("blur", 1)], 1),
        degrade(gray, [Effect("faint_ink", 1), Effect("noise", 1)], 1),
    ]
    good, *others = shipped.predict([np.stack([page] * 3, -1) for page in (gray, *bad)])
    assert good.cer < 0.2
    assert all(found.cer > good.cer + 0.05 for found in others)


def test_attribution_points_at_the_damage(shipped: QualityPredictor) -> None:
    gray = np.array(a_page(5, size=24, lines=14)[0])
    half = len(gray) // 2
    gray[half:] = degrade(gray[half:], [Effect("noise", 0.9), Effect("faint_ink", 0.8)], 3)
    found = shipped.attribute(Image.fromarray(gray).convert("RGB"))
    rows = len(found.contribution)
    assert found.contribution.ndim == 2
    lower, upper = found.contribution[rows // 2 :].sum(), found.contribution[: rows // 2].sum()
    assert lower > upper


def test_the_shipped_predictor_says_what_it_is() -> None:
    card = load_model(SHIPPED_FOLDER).card
    assert card.engine == "tesseract"
    assert card.figures["documents"] >= 250
    unseen = card.figures["unseen documents"]["cer"]
    assert unseen["spearman"] >= 0.6
    assert unseen["of_mean"] <= 0.75


def test_verdicts_follow_the_settings() -> None:
    settings = load_settings()
    assert [verdict(cer, settings) for cer in (0.0, 0.2, 0.4, 0.61)] == [
        "ocr",
        "ocr",
        "rescan",
        "manual",
    ]
    assert verdict(0.3, load_settings(quality_ocr_cer=0.35)) == "ocr"
