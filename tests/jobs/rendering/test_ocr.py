"""Pages without a text layer, read by Tesseract."""

from pathlib import Path

import numpy as np
import pymupdf
from PIL import Image

from jobs.rendering.client import Renderer, RenderLimits, RenderTarget
from tests.support.documents import ENGLISH, JAPANESE, a_document, save
from tests.support.rendering import TARGET, assert_on_grid


def test_scanned_pages_get_text(renderer: Renderer, tmp_path: Path) -> None:
    source = a_document(ENGLISH, JAPANESE)
    scans = pymupdf.open()
    for number in range(source.page_count):
        scan = scans.new_page(width=595, height=842)
        picture = source[number].get_pixmap(dpi=150, colorspace=pymupdf.csGRAY)
        scan.insert_image(scan.rect, pixmap=picture)
    scans.new_page()  # blank: nothing to recognise
    path = save(scans, tmp_path / "scan.pdf")
    target = RenderTarget(4096, 600_000, ocr=True, ocr_languages="eng+jpn+kor+xxx")

    english, japanese, blank = (renderer.render(path, number, target) for number in (1, 2, 3))

    assert english.ocr
    assert "copper pipe" in english.text
    assert japanese.ocr
    assert "支払期限" in japanese.text
    assert english.ocr_s > 0
    assert (blank.ocr, blank.text, blank.ocr_error, blank.ocr_s) == (False, "", "", 0)
    assert renderer.render(path, 1, TARGET).text == ""
    source[0].get_pixmap(dpi=150).save(tmp_path / "scan.png")
    assert "copper pipe" in renderer.render(str(tmp_path / "scan.png"), 1, target).text


def test_a_page_survives_failing_ocr(tmp_path: Path) -> None:
    path = str(tmp_path / "noise.png")
    noise = np.random.default_rng(7).integers(0, 256, (3000, 3000), np.uint8)
    Image.fromarray(noise).save(path)
    unknown = RenderTarget(4096, 65_536, ocr=True, ocr_languages="xxx")
    known = RenderTarget(4096, 65_536, ocr=True, ocr_languages="eng+jpn")

    with Renderer(RenderLimits(page_timeout_s=3)) as renderer:
        missing = renderer.render(path, 1, unknown)
        late = renderer.render(path, 1, known)

    assert (missing.text, missing.ocr) == ("", False)
    assert "xxx" in missing.ocr_error
    assert late.ocr_error.startswith("OCR took over")
    assert_on_grid(late)
