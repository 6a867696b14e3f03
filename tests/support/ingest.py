"""Files to ingest, good and bad, and what is asked of a report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymupdf

from cluster.core import Hit
from tests.support import documents as make
from tests.support.documents import laughs

KOREAN = "영수증 제 사천칠백십일호 구리 파이프"


REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "locked.pdf": (make.make_encrypted, "skipped", "encrypted"),
    "empty.pdf": (Path.touch, "skipped", "empty"),
    "no-pages.pdf": (make.make_without_pages, "skipped", "no_pages"),
    "login.pdf": (make.make_html, "skipped", "mislabelled"),
    "picture.pdf": (make.make_png, "skipped", "mislabelled"),
    "cut.pdf": (make.make_truncated, "failed", "corrupt"),
    "noise.pdf": (make.make_garbage, "failed", "corrupt"),
    "bomb.png": (make.make_bomb, "failed", "too_many_pixels"),
    "endless.pdf": (laughs, "failed", "timeout"),
    "huge.pdf": (lambda path: path.write_bytes(bytes(3 * 2**20)), "skipped", "too_large"),
}


def scanned(source: pymupdf.Document) -> pymupdf.Document:
    """The same pages as pictures, which take a second of OCR each."""
    scans = pymupdf.open()
    for number in range(source.page_count):
        page = source[number]
        scans.new_page(width=842, height=595).insert_image(
            page.rect, pixmap=page.get_pixmap(dpi=100)
        )
    return scans


LIMITS = {
    "QUIRE_PAGE_TIMEOUT_S": "12",
    "QUIRE_MAX_DOCUMENT_BYTES": str(2 * 2**20),
    "QUIRE_RENDER_WORKERS": "2",
    "QUIRE_SHARD_PAGES": "4",
}


def by_name(report: Any) -> dict[str, Any]:
    return {Path(each["source"]).name: each for each in report["documents"]}


Search = Callable[..., list[Hit]]
