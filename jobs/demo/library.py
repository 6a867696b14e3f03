"""A small library of made-up documents to try Quire with: `python -m jobs.demo.library FOLDER`.

The texts are in jobs/demo/texts/, one file a document, in the markup of `jobs.demo.layout`.
"""

import argparse
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pymupdf
from PIL import Image

from jobs.demo.layout import lay_out, parse, to_bytes
from jobs.ocr_quality.degrade import Effect, degrade

TEXTS = Path(__file__).parent / "texts"
SCAN_DPI = 130
# What an office scanner does to a page.
SCANNER = [
    Effect("shadow", 0.1),
    Effect("skew", 0.25),
    Effect("blur", 0.08),
    Effect("noise", 0.06),
]
SCREENSHOT_DPI = 70
POINTS_PER_INCH = 72


@dataclass(frozen=True)
class DemoQuery:
    """A query and the one page it should find. `text` is empty for a screenshot."""

    text: str
    document: str
    page: int


DEMO_QUERIES = (
    DemoQuery(
        "bicycle frame cracked at the seat tube, warranty", "letter-complaint-bicycle.pdf", 1
    ),
    DemoQuery("焙煎中に火が出たときの対処", "roaster-manual-ja.pdf", 2),
)
SCREENSHOT = DemoQuery("", "harbour-report.pdf", 7)
SCREENSHOT_CROP = (0.06, 0.12, 0.94, 0.62)  # left, top, right, bottom: shares of the page


def write_library(folder: Path, *, seed: int = 7) -> list[Path]:
    """Write the library's PDFs into a folder; the same seed gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_write_document(text, folder, seed) for text in sorted(TEXTS.glob("*.txt"))]


def write_screenshot(folder: Path, path: Path) -> DemoQuery:
    """Write a PNG that looks like a screenshot of part of a page; returns what it should find."""
    with pymupdf.open(folder / SCREENSHOT.document) as document:
        image = _picture_of(document[SCREENSHOT.page - 1], SCREENSHOT_DPI)
    left, top, right, bottom = SCREENSHOT_CROP
    crop = image.crop(
        (
            int(left * image.width),
            int(top * image.height),
            int(right * image.width),
            int(bottom * image.height),
        )
    )
    with Image.open(_jpeg(crop, quality=60)) as worn:
        worn.save(path, "PNG")
    return SCREENSHOT


def _write_document(text: Path, folder: Path, seed: int) -> Path:
    layout, pages = parse(text.read_text(encoding="utf-8"))
    document = lay_out(layout, pages)
    if layout.scan:
        document = _scanned(document, seed + len(text.name))
    path = folder / f"{text.stem}.pdf"
    path.write_bytes(to_bytes(document, "" if layout.scan else layout.title))
    return path


def _scanned(source: pymupdf.Document, seed: int) -> pymupdf.Document:
    """Return the pages as an office scanner gives them: pictures, grey, tilted, uneven, no text."""
    scans = pymupdf.open()
    for number in range(source.page_count):
        page = source[number]
        scan = scans.new_page(width=page.rect.width, height=page.rect.height)
        gray = np.asarray(_picture_of(page, SCAN_DPI).convert("L"))
        picture = Image.fromarray(degrade(gray, SCANNER, seed + number))
        scan.insert_image(scan.rect, stream=_jpeg(picture, quality=48).getvalue())
    return scans


def _picture_of(page: pymupdf.Page, dpi: int) -> Image.Image:
    pixmap = page.get_pixmap(dpi=dpi)
    return Image.frombytes("RGB", (pixmap.width, pixmap.height), pixmap.samples)


def _jpeg(picture: Image.Image, *, quality: int) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    file.seek(0)
    return file


def main() -> None:
    """Write the library into the folder named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m jobs.demo.library", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    for path in write_library(given.folder, seed=given.seed):
        print(path)


if __name__ == "__main__":
    main()
