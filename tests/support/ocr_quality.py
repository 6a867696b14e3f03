"""Pages of words, jobs of labelling, and a model of vectors for the OCR quality predictor."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pymupdf
from PIL import Image, ImageDraw, ImageFont

from cluster.pages.vectors import PageVectors, Tile
from jobs.ocr_quality.engines import find_engine
from jobs.ocr_quality.label import LabelContext, LabelRequest
from jobs.rendering.client import RenderLimits

WORDS = [
    "invoice",
    "delivery",
    "copper",
    "pipe",
    "amount",
    "harbour",
    "station",
    "winter",
    "garden",
    "total",
    "letter",
    "paper",
]


def a_page(seed: int = 0, size: int = 22, lines: int = 8) -> tuple[Image.Image, str]:
    """A page of words, uint8 grey, and its text."""
    rng = np.random.default_rng(seed)
    font = ImageFont.load_default(size)
    image = Image.new("L", (560, 40 + lines * size * 2), 255)
    said = [" ".join(rng.choice(WORDS, 4)) for _ in range(lines)]
    for number, line in enumerate(said):
        ImageDraw.Draw(image).text((24, 24 + number * size * 1.8), line, 0, font)
    return image, "\n".join(said)


def a_pdf(path: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    document = pymupdf.open()
    page = document.new_page(width=300, height=200)
    for line in range(6):
        page.insert_text((20, 30 + line * 24), " ".join(rng.choice(WORDS, 4)), fontsize=11)
    document.save(path)
    return path


def a_job(request: LabelRequest, done: frozenset[str] = frozenset()) -> LabelContext:
    engine = find_engine("tesseract", "eng", timeout_s=30)
    return LabelContext(request, engine, engine.version, RenderLimits(), 2**30, done)


class Tokens:
    """A late-interaction model whose vectors are the brightness and spread of patches."""

    class Spec:
        name, revision, dimension = "patches", "1", 2

    spec = Spec()

    def embed_images(
        self, images: Sequence[Image.Image], *, hidden: bool = False, tiles: int = 1
    ) -> list[PageVectors]:
        found = []
        for image in images:
            cells = np.asarray(image.convert("L").resize((40, 40)), np.float32)
            cells = cells.reshape(4, 10, 4, 10).swapaxes(1, 2).reshape(16, 100)
            matrix = np.stack([cells.mean(1), cells.std(1)], 1) / 255
            found.append(PageVectors(matrix, (Tile(4, 4),), matrix * 2 if hidden else None))
        return found
