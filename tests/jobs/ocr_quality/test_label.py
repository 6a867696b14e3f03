"""Labels by the real engine."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.errors import InvalidInput, UnreadableDocument
from cluster.settings import load_settings
from jobs.ocr_quality.engines import find_engine
from jobs.ocr_quality.label import LabelDocument, LabelRequest, label_pages, spread
from jobs.ocr_quality.label_store import LabelStore
from jobs.rendering.client import RenderLimits
from jobs.rendering.pages import PageReader
from tests.support.documents import a_bomb
from tests.support.ocr_quality import WORDS, a_job, a_page, a_pdf
from tests.support.ray_process import RayProcess


def test_labels_say_everything_about_a_variant(labels: Path) -> None:
    rows = list(LabelStore(labels).rows())
    assert len(rows) == 14 * 4
    clean = [row for row in rows if row["variant"] == 0]
    damaged = [row for row in rows if row["variant"]]
    assert np.mean([row["cer"] for row in clean]) < 0.1
    assert np.mean([row["cer"] for row in damaged]) > np.mean([row["cer"] for row in clean])
    row = damaged[0]
    assert row["engine"] == "tesseract"
    assert row["engine_version"][0].isdigit()
    assert json.loads(row["effects"])[0]["severity"] > 0
    assert all(0 <= row[name] <= 1 for row in rows for name in ("cer", "wer", "recall"))
    seen = np.asarray(Image.open(io.BytesIO(row["image"])))
    assert seen.shape == (row["height"], row["width"])


def test_labelling_is_a_job_that_goes_on_where_it_stopped(
    tmp_path: Path, ray_process: RayProcess
) -> None:
    folder, into = tmp_path / "pdfs", tmp_path / "labels"
    folder.mkdir()
    a_pdf(folder / "a.pdf")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing")
    Image.new("L", (200, 200), 255).save(folder / "untold.png")
    settings = load_settings(workers=1)
    engine = find_engine("tesseract", "eng", timeout_s=30)
    request = LabelRequest((str(folder),), into, variants=1)
    report = ray_process.call(label_pages, settings, request, engine)
    assert (report.documents, report.pages_done, report.failures) == (3, 2, 2)
    assert {Path(name).name for name in report.skipped} == {"broken.pdf", "untold.png"}
    rows = {row["id"]: row for row in LabelStore(into).rows()}
    assert {row["truth"] for row in rows.values()} == {"text layer"}
    # What is done is not done again, and a second variant is added to the first.
    job = a_job(LabelRequest((str(folder),), into, variants=1), frozenset(rows))
    (again,) = LabelDocument(job)({"source": [str(folder / "a.pdf")]})
    assert (again["rows"], again["problem"]) == ([[]], [""])
    job = a_job(LabelRequest((str(folder),), into, variants=2), frozenset(rows))
    (more,) = LabelDocument(job)({"source": [str(folder / "a.pdf")]})
    assert [json.loads(row)["variant"] for row in more["rows"][0]] == [2]


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(InvalidInput, match="magic"):
        find_engine("magic", "eng", timeout_s=1)
    with pytest.raises(InvalidInput, match="xxx"):
        find_engine("tesseract", "eng+xxx", timeout_s=1)


def test_pages_are_spread_over_a_document() -> None:
    assert spread(10, 3) == [2, 6, 9]
    assert spread(2, 3) == [1, 2]
    assert spread(3, 0) == [1, 2, 3]


@pytest.mark.services
def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    image = a_page(2)[0]
    image.save(tmp_path / "a.png")
    with PageReader(RenderLimits()) as reader:
        found = reader.read(str(tmp_path / "a.png"), 1, pages=1)
        assert np.array_equal(found.rgb[..., 0], np.asarray(image))
        pdf = reader.read(str(a_pdf(tmp_path / "b.pdf")), 1, pages=1)
        assert pdf.rgb.shape == (round(200 / 72 * 200), round(300 / 72 * 200), 3)
        assert pdf.text.split()[0] in WORDS
        (tmp_path / "bomb.png").write_bytes(a_bomb())
        with pytest.raises(UnreadableDocument, match="13000"):
            reader.read(str(tmp_path / "bomb.png"), 1, pages=1)
