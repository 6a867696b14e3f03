"""Ingests of what is in the index already: unchanged, changed, moved, forgotten."""

import os
from pathlib import Path

import pytest

from cluster.core import Query
from cluster.settings import load_settings
from models.retrieval.local import open_retriever
from tests.support.documents import ENGLISH, JAPANESE, a_document, save
from tests.support.ingest import LIMITS, by_name
from tests.support.ray_process import RayProcess

WANTED = ("ingest", "pdfs", "--tag", "tests", "--meta", "year=2026", "--tenant", "acme")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder of two documents, which the test changes."""
    (tmp_path / "pdfs").mkdir()
    save(a_document(ENGLISH, JAPANESE), tmp_path / "pdfs" / "invoice.pdf")
    chapters = (f"Chapter {n} of the gearbox manual" for n in range(1, 31))
    save(a_document(*chapters), tmp_path / "pdfs" / "m.pdf")
    return tmp_path


@pytest.mark.long
def test_again_changed_and_forgotten(library: Path, ray_process: RayProcess) -> None:
    """What an index goes through: unchanged files, a changed one, a forgotten one."""
    report = ray_process.quire_json(*WANTED, folder=library, expect=0, **LIMITS)
    before = ray_process.quire_json("status", folder=library)[0]["pages"]
    old = by_name(report)["invoice.pdf"]["doc_id"]
    save(a_document("A new invoice for zinc plates"), library / "pdfs" / "invoice.pdf")
    again = by_name(
        ray_process.quire_json(*WANTED, "--glob", "[im]*.pdf", folder=library, expect=0, **LIMITS)
    )
    assert again["m.pdf"]["state"] == "unchanged"
    assert (again["invoice.pdf"]["state"], again["invoice.pdf"]["replaced"]) == ("indexed", [old])
    assert ray_process.quire_json("status", folder=library)[0]["pages"] == before - 1
    assert not list((library / "quire-data" / "pages").rglob(f"{old}/*.jpg"))

    path = library / "pdfs" / "m.pdf"
    (gone,) = ray_process.quire_json("forget", "--path", path, folder=library)
    assert (gone["rows"], gone["images"]) == (60, 30)
    assert ray_process.quire_json("search", "gearbox", "--mode", "text", folder=library) == []
    ray_process.quire_json("forget", "--tenant", "acme", folder=library)
    assert ray_process.quire_json("status", folder=library)[0]["pages"] == 0
    assert not list((library / "quire-data" / "pages").rglob("*.jpg"))


@pytest.mark.long
def test_files_that_move_change_or_never_end(tmp_path: Path, ray_process: RayProcess) -> None:
    """Rotated names, brackets in names, a pipe, and a name that is no UTF-8."""
    pdfs = tmp_path / "pdfs"
    pdfs.mkdir()
    save(a_document("The first report, on bridges"), pdfs / "new [1].pdf")
    os.mkfifo(pdfs / "pipe.pdf")
    (pdfs / os.fsdecode(b"caf\xe9.pdf")).write_bytes((pdfs / "new [1].pdf").read_bytes()[:200])
    first = ray_process.quire_json("ingest", "pdfs", folder=tmp_path, expect=1)
    states = {each["reason"]: each["state"] for each in first["documents"]}
    assert states == {"": "indexed", "unsupported": "skipped", "corrupt": "failed"}

    (pdfs / "new [1].pdf").rename(pdfs / "old.pdf")
    save(a_document("The second report, on tunnels"), pdfs / "new [1].pdf")
    second = by_name(
        ray_process.quire_json(
            "ingest", "pdfs/../pdfs/new [1].pdf", "pdfs/old.pdf", folder=tmp_path
        )
    )
    assert second["new [1].pdf"]["state"] == "indexed"
    assert second["old.pdf"]["state"] == "updated" and second["old.pdf"]["new_pages"] == 0
    store = str(tmp_path / "quire-data")
    with open_retriever(load_settings(store=store, mode="text")) as retriever:
        for word, name in (("bridges", "old.pdf"), ("tunnels", "new [1].pdf")):
            (hit,) = retriever.hits(Query(text=word), load_settings(store=store, mode="text"))
            assert Path(hit.source).name == name
