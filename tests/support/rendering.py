"""What tests of rendering ask for and look at."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from cluster.errors import UnreadableDocument
from jobs.rendering.client import RenderedPage, RenderTarget
from models.images import FACTOR_PX

MIB = 2**20
TARGET = RenderTarget(min_pixels=4096, max_pixels=600_000)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def refusal(call: Callable[[], object]) -> UnreadableDocument:
    with pytest.raises(UnreadableDocument) as caught:
        call()
    assert str(caught.value)
    return caught.value


def is_near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() < 40)


def assert_on_grid(page: RenderedPage, target: RenderTarget = TARGET) -> None:
    height, width, channels = page.pixels.shape
    assert channels == 3
    assert page.pixels.dtype == np.uint8
    assert width % FACTOR_PX == height % FACTOR_PX == 0
    assert width * height <= target.max_pixels
    kept = Image.open(io.BytesIO(page.jpeg))
    assert kept.size == (page.jpeg_width, page.jpeg_height)
