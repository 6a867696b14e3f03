"""Searches in what was ingested."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cluster.core import Filter, Query
from tests.support.ingest import Search
from tests.support.ray_process import RayProcess


@pytest.mark.parametrize("mode", ["hybrid", "dense", "text"])
@pytest.mark.parametrize(
    ("query", "names", "page"),
    [
        ("three pallets of copper pipe", ("invoice.pdf", "scan.png"), 1),
        ("銅管三パレット 支払期限", ("invoice.pdf",), 2),
        ("구리 파이프 영수증", ("receipt.pdf", "copy.pdf"), 1),
    ],
)
def test_search_by_text(
    search: Search, query: str, names: tuple[str, ...], page: int, mode: str
) -> None:
    first = search(Query(text=query), mode=mode)[0]
    assert Path(first.source).name in names
    assert first.page == page
    assert (first.fused is not None) == (mode != "text")


def test_a_number_finds_its_page(search: Search) -> None:
    assert search(Query(text="chapter 17 gearbox"))[0].page == 17


def test_scanned_pages_are_read_by_ocr(search: Search) -> None:
    hits = search(Query(text="copper pallets"), mode="text")
    assert {Path(hit.source).name for hit in hits} == {"invoice.pdf", "scan.png"}
    assert all(hit.text_score and hit.dense is None for hit in hits)


def test_search_by_screenshot_and_both(search: Search, library: Path) -> None:
    with Image.open(library / "pdfs" / "scan.png") as scan:
        shot = scan.convert("RGB").resize((scan.width // 2, scan.height // 2))
    # Pages without text, such as those whose OCR took too long, are nearer to any screenshot.
    hits = search(Query(image=shot), top_k=40)
    found = [Path(hit.source).name for hit in hits if hit.text]
    assert "scan.png" in found[:2]  # the page it is a scan of looks the same
    both = search(Query(text="gearbox", image=shot), top_k=40)
    assert {"m.pdf", "scan.png"} <= {Path(hit.source).name for hit in both}


def test_search_filters(search: Search) -> None:
    def count(**wanted: Any) -> int:
        return len(search(Query(text="gearbox", filter=Filter(**wanted)), mode="text", top_k=50))

    assert count(tenant="acme", tags=("tests",), metadata={"year": 2026}) == 30
    assert count(tenant="other") == count(tags=("no",)) == count(metadata={"year": "2026"}) == 0
    assert count(after=datetime(2999, 1, 1, tzinfo=UTC)) == 0


def test_output_for_people(library: Path, report: Any, ray_process: RayProcess) -> None:
    shown = ray_process.quire("search", "銅管三パレット", "--mode", "hybrid", folder=library).stdout
    assert "invoice.pdf" in shown
    assert "page 2" in shown
    assert "銅管三パレット" in shown
    assert "quire-tiny" in ray_process.quire("status", folder=library).stdout
