"""What is made of a page for an embedder, as the settings say."""

from cluster.core import Fingerprint
from cluster.errors import InvalidInput
from cluster.settings import Settings
from jobs.rendering.client import RenderTarget
from jobs.rendering.ocr import tesseract_available
from models.registry import ModelSpec


def page_target(
    settings: Settings, spec: ModelSpec, fingerprint: Fingerprint, *, scan: bool = False
) -> RenderTarget:
    """Return what to make of every page; `scan`: also the page as OCR gets it.

    Raises InvalidInput where OCR is wanted and not installed.
    """
    return RenderTarget(
        min_pixels=spec.min_pixels,
        max_pixels=fingerprint.max_pixels,
        keep_pixels=settings.keep_pixels,
        ocr=_wants_ocr(settings),
        ocr_languages=settings.ocr_languages,
        scan=scan,
    )


def _wants_ocr(settings: Settings) -> bool:
    if settings.ocr == "on" and not tesseract_available():
        raise InvalidInput("ocr is on but Tesseract is not installed: install it, or set ocr off")
    return settings.ocr != "off" and tesseract_available()
