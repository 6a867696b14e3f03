"""Page images for training: every page rendered once, kept as grey bytes in one file each.

Pages are at 75 dpi, what screenshots are cut from; views fill the pixel budget on the patch grid,
what documents are embedded from.
"""

import json
import logging
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pymupdf

log = logging.getLogger(__name__)

Grey = npt.NDArray[np.uint8]

SCREEN_DPI = 75
BLOCK_PX = 32


@dataclass(frozen=True)
class PageImages:
    """Grey pages and views of several documents; `documents[i]` lists the pages of document i."""

    documents: list[list[int]]
    _bytes: Grey
    _places: list[tuple[int, int, int, int, int]]

    def page(self, index: int) -> Grey:
        """(H, W) at 75 dpi."""
        start, height, width, _, _ = self._places[index]
        return self._bytes[start : start + height * width].reshape(height, width)

    def view(self, index: int) -> Grey:
        """(H, W) within the pixel budget, multiples of 32."""
        start, height, width, view_height, view_width = self._places[index]
        start += height * width
        return self._bytes[start : start + view_height * view_width].reshape(
            view_height, view_width
        )


def grid_size(height: float, width: float, max_pixels: int) -> tuple[int, int]:
    """Multiples of 32 nearest to a size, within `max_pixels` (smart_resize of Qwen2-VL)."""
    rows = max(BLOCK_PX, round(height / BLOCK_PX) * BLOCK_PX)
    columns = max(BLOCK_PX, round(width / BLOCK_PX) * BLOCK_PX)
    if rows * columns > max_pixels:
        beta = math.sqrt(height * width / max_pixels)
        rows = max(BLOCK_PX, math.floor(height / beta / BLOCK_PX) * BLOCK_PX)
        columns = max(BLOCK_PX, math.floor(width / beta / BLOCK_PX) * BLOCK_PX)
    return rows, columns


def render(page: pymupdf.Page, height: int, width: int) -> Grey:
    """(height, width) grey image of a whole page."""
    matrix = pymupdf.Matrix(width / page.rect.width, height / page.rect.height)
    pixmap = page.get_pixmap(matrix=matrix, colorspace=pymupdf.csGRAY, alpha=False)
    image = np.frombuffer(pixmap.samples, np.uint8).reshape(pixmap.height, pixmap.stride)
    canvas = np.full((height, width), 255, np.uint8)
    part = image[:height, : min(width, pixmap.width)]
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas


def view_size(page: pymupdf.Page, max_pixels: int) -> tuple[int, int]:
    """Height and width of the largest view of a page within the budget."""
    scale = math.sqrt(max_pixels / (page.rect.width * page.rect.height))
    return grid_size(page.rect.height * scale, page.rect.width * scale, max_pixels)


def render_all(
    pdfs: Sequence[Path],
    target: Path,
    max_pixels: int,
    max_pages: int,
    seed: int,
    per_document: int = 12,
) -> PageImages:
    """Render up to `max_pages` pages of the PDFs into `target`, or open them if they are there."""
    places_file, bytes_file = target / "places.json", target / "pages.bin"
    if not places_file.exists():
        target.mkdir(parents=True, exist_ok=True)
        rng = random.Random(seed)
        documents: list[list[tuple[int, int, int, int, int]]] = []
        start = count = 0
        with bytes_file.open("wb") as sink:
            for pdf in rng.sample(pdfs, len(pdfs)):
                places = []
                for page, view in _render_pdf(pdf, max_pixels, per_document, rng):
                    places.append((start, *page.shape, *view.shape))
                    sink.write(page.tobytes() + view.tobytes())
                    start += page.size + view.size
                if places:
                    documents.append(places)
                count += len(places)
                if count >= max_pages:
                    break
        places_file.write_text(json.dumps(documents))
        log.info("rendered %d pages of %d documents", count, len(documents))
    stored: list[list[list[int]]] = json.loads(places_file.read_text())
    flat = [(a, b, c, d, e) for places in stored for a, b, c, d, e in places]
    numbers = iter(range(len(flat)))
    return PageImages(
        [[next(numbers) for _ in places] for places in stored],
        np.memmap(bytes_file, np.uint8, mode="r"),
        flat,
    )


def _render_pdf(
    pdf: Path, max_pixels: int, per_document: int, rng: random.Random
) -> list[tuple[Grey, Grey]]:
    try:
        document = pymupdf.open(pdf)
    except (pymupdf.FileDataError, pymupdf.EmptyFileError):
        return []
    images = []
    with document:
        numbers = list(range(len(document)))
        for number in sorted(rng.sample(numbers, min(len(numbers), per_document))):
            page = document[number]
            height, width = (
                round(side * SCREEN_DPI / 72) for side in (page.rect.height, page.rect.width)
            )
            if not (64 <= height <= 1600 and 64 <= width <= 1600 and 1 / 3 < height / width < 3):
                continue
            screen = render(page, height, width)
            if screen.std() > 8:
                images.append((screen, render(page, *view_size(page, max_pixels))))
    return images
