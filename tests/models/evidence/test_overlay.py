"""The picture of evidence over its page."""

import io

import numpy as np
import pytest
from PIL import Image

from cluster.pages.words import PageWord
from models.evidence.overlay import overlay
from models.evidence.regions import Evidence, of_states, of_words
from tests.support.documents import a_jpeg


@pytest.mark.parametrize(
    "evidence",
    [
        of_words([PageWord("a", (0.5, 0.5, 0.75, 0.6))]),
        of_states(np.eye(6, dtype=np.float32)),
        Evidence("words"),
    ],
)
def test_the_overlay_is_the_page_with_marks_on_it(evidence: Evidence) -> None:
    png = overlay(a_jpeg(), evidence)
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.size) == ("PNG", (200, 300))
        pixels = np.asarray(image.convert("RGB")).astype(int)
    marked = (np.abs(pixels - 255).sum(axis=2) > 30).mean()
    assert marked == 0 if not evidence.regions else 0 < marked < 0.9
