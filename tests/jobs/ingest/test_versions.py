"""Passing faults and new versions: what could be found can still be found."""

import json
from pathlib import Path

import pymupdf
import pytest

from tests.support.documents import a_document, laughs, save
from tests.support.ray_process import RayProcess

VERSIONS = """
import json, shutil
from pathlib import Path
from cluster.settings import load_settings
from cluster.store.milvus import open_store
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest

settings = load_settings(
    store=str(Path("quire-data").resolve()), ocr="off", max_pixels=32_768, render_workers=1
)
HASTY = {"document_timeout_s": 0.001}

def ingest(reindex=False, **changes):
    used = settings.model_copy(update=changes)
    (report,) = run_ingest(used, IngestRequest(("a.pdf",), reindex=reindex)).documents
    with open_store(settings) as store:
        held = [
            [each.status, each.error[:40], sorted(store.pages_present(each))]
            for each in store.documents()
        ]
    print(json.dumps([report.state, sorted(report.failed_pages), len(report.replaced), held]))

ingest()
ingest(reindex=True, **HASTY)      # the machine is busy
ingest()                           # and is not any more
shutil.copy("b.pdf", "a.pdf")
ingest(page_timeout_s=2)                     # most of a new version
ingest(page_timeout_s=2, replace_share=0.5)  # which is enough, if that is what is wanted
"""


@pytest.mark.long
def test_a_busy_machine_removes_nothing(tmp_path: Path, ray_process: RayProcess) -> None:
    for name in ("a", "b"):
        save(a_document(*(f"Page {n} of {name}" for n in range(3))), tmp_path / f"{name}.pdf")
    with pymupdf.open(tmp_path / "b.pdf") as new:
        new.insert_pdf(pymupdf.open(laughs(tmp_path / "endless.pdf")))
        new.saveIncr()
    lines = ray_process.script(VERSIONS, tmp_path).splitlines()
    first, busy, calm, most, enough = map(json.loads, lines)
    every = [1, 2, 3]
    assert first == ["indexed", [], 0, [["indexed", "", every]]]
    assert busy[:2] == ["indexed", every] and busy[3][0][2] == every
    assert "timeout" in busy[3][0][1]
    assert calm == first
    state, failed, replaced, (new_one, old_one) = most
    assert (state, failed, replaced) == ("indexed", [4], 0)
    assert old_one == ["indexed", "", every] and new_one[2] == every
    assert enough[2] == 1 and len(enough[3]) == 1
