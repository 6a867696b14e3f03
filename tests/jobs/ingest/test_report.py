"""What becomes of every input, and what is kept of it."""

from pathlib import Path
from typing import Any

from PIL import Image

from jobs.report_file import read_entries
from tests.support.ingest import REFUSED, by_name
from tests.support.ray_process import RayProcess


def test_every_input_ends_in_a_named_state(report: Any) -> None:
    found = by_name(report)
    assert len(found) == len(report["documents"]) == 17
    for name, (_, state, reason) in REFUSED.items():
        assert (found[name]["state"], found[name]["reason"]) == (state, reason), name
        assert found[name]["message"], name
    pages = {"invoice.pdf": 2, "m.pdf": 30, "scan.png": 1, "fax.tiff": 3, "slow.pdf": 12}
    for name, count in pages.items():
        assert (found[name]["state"], found[name]["new_pages"]) == ("indexed", count), name


def test_the_same_bytes_are_one_document(report: Any) -> None:
    found = by_name(report)
    twins = [found["copy.pdf"], found["receipt.pdf"]]
    assert twins[0]["doc_id"] == twins[1]["doc_id"]
    assert sum(twin["new_pages"] for twin in twins) <= 2


def test_a_long_document_is_spread_over_the_workers(report: Any) -> None:
    assert report["render_workers"] == 2


def test_rows_carry_what_was_given(library: Path, report: Any, ray_process: RayProcess) -> None:
    listed = ray_process.quire_json("documents", folder=library)
    invoice = next(each for each in listed if each["source"].endswith("invoice.pdf"))
    assert invoice["tenant"] == "acme"
    assert invoice["tags"] == ["tests"]
    assert invoice["metadata"] == {"year": 2026}
    assert (invoice["status"], invoice["pages"]) == ("indexed", 2)
    failed = next(each for each in listed if each["source"].endswith("cut.pdf"))
    assert failed["status"] == "failed"
    assert "corrupt" in failed["error"]


def test_page_images_are_kept(library: Path, report: Any) -> None:
    images = sorted((library / "quire-data" / "pages").rglob("*.jpg"))
    assert len(images) == 2 + 1 + 30 + 1 + 3 + 12
    with Image.open(images[0]) as image:
        assert image.format == "JPEG"


def test_the_report_is_a_file(library: Path, report: Any) -> None:
    (file,) = (library / "quire-data" / "reports").glob("*.jsonl")
    _, *documents, summary = read_entries(file)
    assert len(documents) == len(report["documents"])
    assert summary["summary"]["states"] == report["states"]
