"""A page as a picture with its evidence drawn over it."""

import io

import numpy as np
from PIL import Image, ImageDraw

from models.evidence.regions import Evidence

MAX_OPACITY = 0.55
COLOUR = (255, 138, 0)
OUTLINE = (196, 30, 58)


def overlay(jpeg: bytes, evidence: Evidence) -> bytes:
    """Return the page with its evidence drawn over it, PNG."""
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
        page = image.convert("RGB")
    if evidence.heat is not None:
        page = _tinted(page, evidence.heat)
    draw = ImageDraw.Draw(page)
    width = max(2, page.width // 300)
    for region in evidence.regions:
        left, top, right, bottom = region.box
        corners = (left * page.width, top * page.height, right * page.width, bottom * page.height)
        draw.rectangle(corners, outline=OUTLINE, width=width)
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def _tinted(page: Image.Image, heat: np.ndarray) -> Image.Image:
    opacity = Image.fromarray((heat * 255 * MAX_OPACITY).astype(np.uint8))
    mask = opacity.resize(page.size, Image.Resampling.BICUBIC)
    return Image.composite(Image.new("RGB", page.size, COLOUR), page, mask)
