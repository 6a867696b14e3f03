"""Documents that are text without end."""

from pathlib import Path

import pymupdf

from tests.support.ray_process import RayProcess


def a_flood(path: Path, pages: int, letters: int) -> None:
    """A small PDF all of whose pages draw the same stream of text."""
    document = pymupdf.open()
    first = document.new_page()
    for line in range(40):
        first.insert_text((2, 20 + line * 20), "flood " * (letters // 240), fontsize=4)
    stream = document.xref_get_key(first.xref, "Contents")[1]
    fonts = document.xref_get_key(first.xref, "Resources")[1]
    for _ in range(pages - 1):
        page = document.new_page()
        document.xref_set_key(page.xref, "Contents", stream)
        document.xref_set_key(page.xref, "Resources", fonts)
    document.save(path, garbage=4, deflate=True)


def test_text_without_end_is_stopped(tmp_path: Path, ray_process: RayProcess) -> None:
    a_flood(tmp_path / "flood.pdf", pages=8, letters=60_000)
    assert (tmp_path / "flood.pdf").stat().st_size < 20_000
    report = ray_process.quire_json(
        "ingest", "flood.pdf", folder=tmp_path, QUIRE_MAX_PIXELS="16384",
        QUIRE_MAX_PAGE_CHUNKS="10", QUIRE_MAX_DOCUMENT_CHUNKS="35",
    )  # fmt: skip
    (document,) = report["documents"]
    failed = document["failed_pages"]
    assert len(failed) == 5 and all("too_much_text" in why for why in failed.values())
    assert document["state"] == "indexed" and document["new_pages"] == 3
    assert "max_document_chunks" in document["message"]
