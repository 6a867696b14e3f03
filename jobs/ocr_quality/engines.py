"""OCR engines, each known by name and version: what a quality predictor is trained for."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cluster.errors import InvalidInput
from jobs.rendering.ocr import (
    OcrFailed,
    installed_languages,
    recognise,
    tesseract_available,
    tesseract_version,
)


class OcrEngine(Protocol):
    """Reads pictures of pages. `languages` as the engine writes them."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def languages(self) -> str: ...

    def read(self, gray: np.ndarray, dpi: int) -> str:
        """Return the text of uint8[height, width]. Raises OcrFailed."""
        ...


@dataclass(frozen=True)
class Tesseract:
    """The `tesseract` command of this machine."""

    languages: str
    timeout_s: float = 60.0
    name: str = "tesseract"

    @property
    def version(self) -> str:
        return tesseract_version()

    def read(self, gray: np.ndarray, dpi: int) -> str:
        return recognise(gray, self.languages, dpi=dpi, timeout_s=self.timeout_s)


def find_engine(name: str, languages: str, *, timeout_s: float) -> OcrEngine:
    """An engine by its name, ready to read. Raises InvalidInput that says what is missing."""
    if name != "tesseract":
        raise InvalidInput(f"there is no OCR engine {name!r}: tesseract is known")
    if not tesseract_available():
        raise InvalidInput("Tesseract is not installed: install tesseract-ocr")
    try:
        missing = set(languages.split("+")) - installed_languages()
    except OcrFailed as error:
        raise InvalidInput(str(error)) from error
    if missing:
        # Left out silently, the labels would be of another engine than the rows say.
        raise InvalidInput(
            f"Tesseract has no data for {', '.join(sorted(missing))}: install its language "
            "packages, or choose others by --ocr-languages"
        )
    return Tesseract(languages, timeout_s)
