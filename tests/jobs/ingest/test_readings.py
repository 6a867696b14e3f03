"""A new reading of pages is a class and an entry: no stage changes, no collection is lost."""

import json
from pathlib import Path

import pytest

from tests.support.documents import a_document, save
from tests.support.ray_process import RayProcess

INK = """
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import numpy as np
from PIL import Image

import jobs.ingest.readings as readings
from cluster.settings import load_settings
from cluster.store.milvus import open_store
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest


@dataclass(frozen=True)
class InkShare:
    "How much of a page's kept picture is dark."

    columns: ClassVar = ("ink_share",)
    runs_on: ClassVar = "cpu"
    needs_scan: ClassVar = False

    @classmethod
    def wanted(cls, settings):
        return cls()

    def done(self, document, store, files):
        return set(store.readings(document, self.columns))

    def load(self, models):
        pass

    def read(self, pages, models):
        pictures = [Image.open(io.BytesIO(page.picture)) for page in pages]
        return [
            {"ink_share": float((np.asarray(picture.convert("L")) < 128).mean())}
            for picture in pictures
        ]


settings = load_settings(store=str(Path("quire-data").resolve()), ocr="off")


def ingest():
    report = run_ingest(settings, IngestRequest(("report.pdf",)))
    (ingested,) = report.documents
    with open_store(settings) as store:
        (document,) = store.documents()
        shares = store.readings(document, ["ink_share"])
        print(json.dumps([ingested.state, ingested.new_pages, str(store.fingerprint()), shares]))


ingest()
with patch.object(readings, "READINGS", (*readings.READINGS, InkShare)):
    ingest()
    ingest()
ingest()
"""


@pytest.mark.long
def test_a_third_reading_touches_no_stage_and_no_collection(
    tmp_path: Path, ray_process: RayProcess
) -> None:
    save(a_document("a line", "\n".join(["a line of ink"] * 30)), tmp_path / "report.pdf")
    printed = ray_process.script(INK, tmp_path)
    first, read, again, without = map(json.loads, printed.splitlines())
    assert first[:2] == ["indexed", 2] and first[3] == {}
    assert read[:2] == ["indexed", 2]  # pages without it are done again, in the same collection
    assert read[2] == first[2]
    shares = {page: values["ink_share"] for page, values in read[3].items()}
    assert 0 < shares["1"] < shares["2"] < 0.5
    assert again[:2] == ["unchanged", 0] and again[3] == read[3]
    assert without[:2] == ["unchanged", 0] and without[3] == read[3]  # nothing that was read goes
