"""What is deleted while it is ingested stays deleted: rows, files, originals."""

import json
from pathlib import Path

import pytest

from tests.support.documents import a_document, save
from tests.support.ray_process import RayProcess

RACE = """
import json, threading, time
from dataclasses import asdict
from pathlib import Path
from cluster.core import Filter
from cluster.settings import load_settings
from cluster.store.milvus import open_store
from jobs.forget import Forgetter
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest
from jobs.uploads import Uploads

settings = load_settings(
    store=str(Path("quire-data").resolve()), ocr="off", max_pixels=32_768, render_workers=1
)

def race(paths, tenant, pages, delete):
    reports = []
    request = IngestRequest(tuple(paths), tenant=tenant, is_job=True)
    ingest = threading.Thread(target=lambda: reports.append(run_ingest(settings, request)))
    ingest.start()
    with open_store(settings) as store:
        while store.count_pages(Filter(tenant=tenant)) < pages:
            assert ingest.is_alive()
            time.sleep(0.02)
        delete(store)
        ingest.join()
        own = Filter(tenant=tenant)
        left = store.count_pages(own), len(store.documents(own))
    kept = (".jpg", ".words", ".pdf")
    files = [path for path in settings.data_dir.rglob("*") if path.suffix in kept]
    ends = [(each.state, each.reason) for each in reports[0].documents]
    states = dict(reports[0].states)
    found = {"left": left, "files": list(map(str, files))}
    print(json.dumps(found | {"ends": ends, "states": states}))

uploads = Uploads.from_settings(settings)
sources = [uploads.put("acme", f"{n}.pdf", Path(f"{n}.pdf").open("rb")) for n in range(3)]

def delete_document(store):
    (document,) = store.documents(Filter(tenant="acme"), source=sources[0])
    Forgetter(settings, store).forget(document)
    for source in sources[1:]:
        Path(source).unlink()

race(sources[:1], "acme", 20, delete_document)
sources = [uploads.put("acme", f"{n}.pdf", Path(f"{n}.pdf").open("rb")) for n in range(3)]
race(sources, "acme", 20, lambda store: Forgetter(settings, store).forget_tenant("acme"))
"""


@pytest.mark.long
def test_what_is_deleted_while_it_is_ingested_stays_deleted(
    tmp_path: Path, ray_process: RayProcess
) -> None:
    """A document, and a whole tenant with documents that the ingest has not looked at yet."""
    for number in range(3):
        sheets = (f"Sheet {page} of survey {number}" for page in range(90))
        save(a_document(*sheets, width=200, height=200), tmp_path / f"{number}.pdf")
    document, tenant = map(json.loads, ray_process.script(RACE, tmp_path).splitlines())
    for race in (document, tenant):
        assert race["left"] == [0, 0] and race["files"] == []
    assert document["ends"] == [["skipped", "deleted"]] and document["states"] == {"skipped": 1}
    assert tenant["ends"] == [] and tenant["states"] == {"skipped": 3}  # its report is gone, too


CHANGES = """
import json, os, shutil
from pathlib import Path
from cluster.settings import load_settings
from cluster.store.milvus import open_store
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest

settings = load_settings(store=str(Path("quire-data").resolve()), ocr="off", render_workers=1)

def ingest(*paths, tags=(), **changes):
    used = settings.model_copy(update=changes)
    report = run_ingest(used, IngestRequest(tuple(paths), tags=tags))
    with open_store(settings) as store:
        documents = [(Path(each.source).name, each.tags, each.title) for each in store.documents()]
        rows = store.client.count(store.required().pages, "")
    states = {Path(each.source).name: each.state for each in report.documents}
    print(json.dumps([states, report.new_pages, documents, rows]))

Path("in").mkdir()
shutil.copy("a.pdf", "in/a.pdf")
ingest("in")                                             # new
ingest("in", tags=("late",))                             # another tag
Path("in").rename("moved")
ingest("moved")                                          # another folder
shutil.copy("moved/a.pdf", "moved/b.pdf")
ingest("moved")                                          # the same bytes twice
ingest("moved")                                          # settled
ingest("moved", chunk_chars=200, chunk_overlap=20)       # other chunks
ingest("moved", chunk_chars=200, chunk_overlap=20)       # settled
for picture in Path("quire-data/pages").rglob("*000001.jpg"):
    picture.unlink()
ingest("moved", chunk_chars=200, chunk_overlap=20)       # a lost picture
print(json.dumps(len(list(Path("quire-data/pages").rglob("*.jpg")))))
"""


@pytest.mark.long
def test_what_is_only_known_differently_is_not_embedded_again(
    tmp_path: Path, ray_process: RayProcess
) -> None:
    lines = "\n".join(f"line {n} of the report on bridges" for n in range(40))
    save(a_document(lines, lines), tmp_path / "a.pdf")
    printed = [json.loads(line) for line in ray_process.script(CHANGES, tmp_path).splitlines()]
    new, tagged, moved, twin, settled, cut, again, mended, pictures = printed
    title = "a"
    assert new == [{"a.pdf": "indexed"}, 2, [["a.pdf", [], title]], 6]
    assert tagged == [{"a.pdf": "updated"}, 0, [["a.pdf", ["late"], title]], 6]
    assert moved == [{"a.pdf": "updated"}, 0, [["a.pdf", ["late"], title]], 6]
    for same in (twin, settled):
        assert same == [{"a.pdf": "unchanged", "b.pdf": "unchanged"}, 0, moved[2], 6]
    assert cut[:3] == [{"a.pdf": "indexed", "b.pdf": "unchanged"}, 0, moved[2]]
    assert cut[3] > 6
    assert again == [settled[0], 0, moved[2], cut[3]]
    assert mended == [cut[0], 0, moved[2], cut[3]] and pictures == 2
