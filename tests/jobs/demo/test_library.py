"""The demo's library is what the README says, the same every time."""

from pathlib import Path

import pymupdf
import pytest
from PIL import Image

from jobs.demo.library import DEMO_QUERIES, write_library, write_screenshot


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    write_library(folder)
    return folder


def page_text(path: Path, page: int) -> str:
    with pymupdf.open(path) as document:
        return str(document[page - 1].get_text())


def test_size_languages_and_scans(library: Path) -> None:
    texts = []
    for path in library.glob("*.pdf"):
        with pymupdf.open(path) as document:
            texts.append([str(page.get_text()).strip() for page in document])
    assert len(texts) >= 12
    assert sum(map(len, texts)) >= 60
    assert sum(not any(pages) for pages in texts) == 2  # scanned: no text layer
    assert any("請求書" in text for pages in texts for text in pages)
    assert any("영수증" in text for pages in texts for text in pages)


def test_the_same_bytes_every_time(library: Path, tmp_path: Path) -> None:
    for path in write_library(tmp_path):
        assert path.read_bytes() == (library / path.name).read_bytes(), path.name


def test_each_query_has_its_page(library: Path, tmp_path: Path) -> None:
    words = {"en": "seat tube", "ja": "火が出たとき"}
    for query, word in zip(DEMO_QUERIES, words.values(), strict=True):
        assert word in page_text(library / query.document, query.page)
    wanted = write_screenshot(library, tmp_path / "shot.png")
    assert (library / wanted.document).is_file()
    with Image.open(tmp_path / "shot.png") as shot:
        assert shot.width > 300
