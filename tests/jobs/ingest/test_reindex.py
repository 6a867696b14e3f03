"""A document that is indexed again."""

import json
from pathlib import Path

import pymupdf
import pytest
from PIL import Image

from tests.support import documents as make
from tests.support.documents import a_document, save
from tests.support.ray_process import RayProcess

REINDEX = """
import json
from pathlib import Path
from cluster.store.milvus import open_store
from cluster.settings import load_settings
from jobs.forget import Forgetter
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest

STORE = str(Path("quire-data").resolve())  # Ray's workers are in another folder

def index(reindex, **options):
    settings = load_settings(store=STORE, ocr="off", **options)
    path = str(Path("report.pdf").resolve())
    request = IngestRequest((path,), reindex=reindex, is_job=reindex)
    (report,) = run_ingest(settings, request).documents
    with open_store(settings) as store:
        held = [
            (
                each.error,
                sorted(store.pages_present(each)),
                sorted(store.readings(each, ["expected_cer"])),
            )
            for each in store.documents()
        ]
    print(json.dumps([report.state, report.reason, list(report.failed_pages), held]))

settings = load_settings(store=STORE)
with open_store(settings) as store:
    index(reindex=False, chunk_chars=200, chunk_overlap=20)
    for _ in range(2):
        more = dict(multi_vectors="binary", quality="on")
        index(reindex=False, chunk_chars=200, chunk_overlap=20, **more)
    index(reindex=True, max_image_pixels=600_000)
    print(Forgetter(settings, store).forget(store.documents()[0]).rows)
    index(reindex=True)
"""


@pytest.mark.long
def test_indexed_again_nothing_of_before_is_left(tmp_path: Path, ray_process: RayProcess) -> None:
    """Fewer chunks a page, a page that now fails, and a document that was deleted meanwhile.

    Multi-vectors and expected CERs that are wanted later are made later, once; a CER that is known
    stays when a page is done again without the predictor.
    """
    lines = "\n".join(f"line {n} of the report on bridges" for n in range(40))
    pages = a_document(lines, lines, lines)
    photo = make.png(Image.new("L", (1200, 1200)))
    pages[2].insert_image(pymupdf.Rect(300, 300, 500, 500), stream=photo)
    save(pages, tmp_path / "report.pdf")
    printed = ray_process.script(REINDEX, tmp_path)
    first, more, same, again, rows, deleted = map(json.loads, printed.splitlines())
    assert first == ["indexed", "", [], [["", [1, 2, 3], []]]]
    assert more == ["indexed", "", [], [["", [1, 2, 3], [1, 2, 3]]]]
    assert same[0] == "unchanged"
    assert again[:3] == ["indexed", "", [3]]
    ((error, present, foretold),) = again[3]
    assert "page 3: too_many_pixels" in error and present == foretold == [1, 2]
    assert rows == 2 * 3  # two pages with two chunks each; before they had seven and more
    assert deleted == ["skipped", "deleted", [], []]
