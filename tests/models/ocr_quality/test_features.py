"""Statistics of a page image."""

import numpy as np
import pytest

from cluster.errors import InvalidInput
from jobs.ocr_quality.degrade import Effect, degrade
from models.ocr_quality.features import image_statistics
from tests.support.ocr_quality import a_page


def test_statistics_see_size_sharpness_noise_and_skew() -> None:
    image = a_page(3, size=24)[0]
    plain = image_statistics(np.asarray(image))
    half = image_statistics(np.asarray(image.reduce(2)))
    assert half["letter_height"] == pytest.approx(plain["letter_height"] / 2, rel=0.25)
    soft = image_statistics(degrade(np.asarray(image), [Effect("blur", 0.5)], 1))
    assert soft["edge_slope"] < plain["edge_slope"]
    grainy = image_statistics(degrade(np.asarray(image), [Effect("noise", 0.5)], 1))
    assert grainy["noise"] > 1.4 * plain["noise"]
    turned = image.rotate(4, expand=True, fillcolor=255)
    assert image_statistics(np.asarray(turned))["skew"] == pytest.approx(4, abs=0.7)
    assert plain["skew"] < 0.5


@pytest.mark.parametrize(
    "page",
    [
        np.zeros((16, 16), np.uint8),
        np.full((900, 20), 255, np.uint8),
        np.random.default_rng(1).integers(0, 255, (200, 300), np.uint8),
        np.full((3000, 3000), 128, np.uint8),
    ],
)
def test_statistics_of_odd_pages_are_finite(page: np.ndarray) -> None:
    found = image_statistics(page)
    assert np.isfinite(list(found.values())).all()
    assert set(found) == set(image_statistics(np.asarray(a_page()[0])))


def test_statistics_refuse_what_is_no_page() -> None:
    with pytest.raises(InvalidInput):
        image_statistics(np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(InvalidInput):
        image_statistics(np.zeros((3, 20), np.uint8))
