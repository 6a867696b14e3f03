"""Pages as an OCR engine gets them: PDFs at the resolution of OCR, image files pixel by pixel."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cluster.errors import InvalidInput, UnreadableDocument
from jobs.rendering.client import Renderer, RenderLimits, RenderTarget
from jobs.rendering.ocr import MAX_OCR_PIXELS, OCR_DPI
from jobs.rendering.process import fit
from models.images import decode_image

# Of the rendering process only its larger picture is wanted, so the other one is small.
TARGET = RenderTarget(
    min_pixels=32 * 32, max_pixels=128 * 128, keep_pixels=MAX_OCR_PIXELS, max_dpi=OCR_DPI
)


@dataclass(frozen=True)
class PagePixels:
    """One page: uint8[height, width, 3], and its text layer ("" where it has none)."""

    page: int
    rgb: np.ndarray
    text: str


class PageReader:
    """Opens documents page by page. Not thread-safe; close it, or use it in a `with` block."""

    def __init__(self, limits: RenderLimits) -> None:
        self._renderer = Renderer(limits)

    def __enter__(self) -> "PageReader":
        return self

    def __exit__(self, *error: object) -> None:
        self._renderer.close()

    def pages(self, path: str) -> int:
        """Count the pages of a document. Raises UnreadableDocument."""
        return self._renderer.check(path).pages

    def read(self, path: str, page: int, *, pages: int) -> PagePixels:
        """Read one page (from 1) of a document that has so many. Raises UnreadableDocument."""
        if pages == 1 and not path.lower().endswith(".pdf"):
            return PagePixels(page, self._image_file(path), "")
        rendered = self._renderer.render(path, page, TARGET)
        with Image.open(io.BytesIO(rendered.jpeg)) as image:
            return PagePixels(page, np.asarray(image.convert("RGB")), rendered.text)

    def _image_file(self, path: str) -> np.ndarray:
        """The pixels that are stored: through the renderer they would be compressed once more.

        The file was checked before, its pixels are counted before they are decoded.
        """
        try:
            most = self._renderer.limits.max_page_pixels
            image = decode_image(Path(path).read_bytes(), max_pixels=most)
        except (OSError, InvalidInput) as error:
            raise UnreadableDocument("corrupt", str(error)) from error
        size = fit(image.width, image.height, MAX_OCR_PIXELS)
        return np.asarray(image if image.size == size else image.resize(size))
