"""Decoding of query images, and the grid of patches."""

import io

import numpy as np
import pytest
from PIL import Image

from cluster.errors import InvalidInput
from models.images import decode_image, grid_size


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_query_images_are_checked_before_they_are_decoded() -> None:
    assert decode_image(encoded(Image.new("L", (20, 10))), max_pixels=200).mode == "RGB"
    for data in (
        encoded(Image.new("1", (13_000, 13_000))),
        encoded(Image.new("1", (20_000, 20_000))),  # over Pillow's own limit too
        encoded(Image.new("L", (20, 11))),
        encoded(Image.new("L", (20, 10)))[:40],
        encoded(Image.new("L", (20, 10)), "GIF"),
        b"",
        b"<svg/>",
    ):
        with pytest.raises(InvalidInput):
            decode_image(data, max_pixels=200)


def test_transparent_parts_are_paper() -> None:
    image = decode_image(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0))), max_pixels=100)
    assert np.asarray(image).min() == 255


@pytest.mark.parametrize("size", [(595, 842), (842, 595), (10, 10), (3000, 20), (226, 2000)])
def test_the_grid_keeps_to_the_budget(size: tuple[int, int]) -> None:
    width, height = grid_size(*size, min_pixels=4096, max_pixels=500_000)
    assert width % 32 == height % 32 == 0
    assert 4096 <= width * height <= 500_000
    with pytest.raises(InvalidInput):
        grid_size(10_000, 20, min_pixels=4096, max_pixels=500_000)
