"""Labels of a few pages."""

import json
from pathlib import Path

import pytest

from jobs.ocr_quality.label import LabelDocument, LabelRequest
from jobs.ocr_quality.label_store import LabelStore
from tests.support.ocr_quality import a_job, a_page


@pytest.fixture(scope="session")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of a few pages, made by the worker of the labelling job without Ray."""
    folder = tmp_path_factory.mktemp("pages")
    for number in range(14):
        image, text = a_page(number, size=[14, 18, 24][number % 3], lines=4)
        image.save(folder / f"page-{number}.png")
        (folder / f"page-{number}.txt").write_text(text)
    into = tmp_path_factory.mktemp("labels")
    worker = LabelDocument(a_job(LabelRequest((str(folder),), into, variants=3)))
    store = LabelStore(into)
    for file in sorted(folder.glob("*.png")):
        (row,) = worker({"source": [str(file)]})
        assert row["problem"] == [""]
        store.add(
            json.loads(text) | {"image": image}
            for text, image in zip(row["rows"][0], row["images"][0], strict=True)
        )
    return into
