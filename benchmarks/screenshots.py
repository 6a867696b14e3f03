"""Screenshots of pages: what a person cuts out of a screen and sends as a query."""

import io
import random

from PIL import Image


def screenshot(page: Image.Image, dpi: float, rng: random.Random) -> Image.Image:
    """A crop of a page image of `dpi` at 50 to 75 dpi, slightly rotated, after JPEG.

    Width and height are 50 to 90 % of the page, rotation within 2 degrees, JPEG quality 40 to 75.
    """
    width, height = (max(16, round(side * rng.uniform(0.5, 0.9))) for side in page.size)
    left, top = rng.randint(0, page.width - width), rng.randint(0, page.height - height)
    angle = rng.uniform(-2.0, 2.0)
    centre = (left + width / 2, top + height / 2)
    turned = page.rotate(angle, Image.Resampling.BILINEAR, center=centre, fillcolor="white")
    crop = turned.crop((left, top, left + width, top + height))
    scale = rng.uniform(50.0, 75.0) / dpi
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    encoded = io.BytesIO()
    crop.resize(size, Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=rng.randint(40, 75))
    return Image.open(encoded).copy()
