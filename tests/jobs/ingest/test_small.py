"""A small ingest: no Ray starts for it, and nothing at all for documents that are unchanged."""

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cluster.core import Filter
from cluster.settings import load_settings
from cluster.store.milvus import open_store
from jobs.forget import forget_documents
from jobs.ingest.report import IngestReport
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest
from tests.support.documents import a_document, save

pytestmark = pytest.mark.services
Ingest = Callable[..., IngestReport]
OPTIONS = ("quality", "chunk_chars", "chunk_vectors")  # of these tests, that are settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two documents; a Ray that starts is an error."""

    def no_ray(*_: object, **__: object) -> None:
        raise AssertionError("Ray started")

    monkeypatch.setattr("ray.init", no_ray)
    save(a_document("The gearbox manual", "Chapter two"), tmp_path / "manual.pdf")
    save(a_document("A receipt for brake pads"), tmp_path / "receipt.pdf")
    return tmp_path


@pytest.fixture
def ingest(folder: Path) -> Ingest:
    def run(**changes: object) -> IngestReport:
        options = {name: changes.pop(name) for name in OPTIONS if name in changes}
        settings = load_settings(store=str(folder / "data"), ocr="off", **options)
        paths = (str(folder / "*.pdf"),)
        return run_ingest(settings, IngestRequest(paths, **changes))  # type: ignore[arg-type]

    return run


def states(report: IngestReport) -> dict[str, int]:
    return {state: count for state, count in report.states.items() if count}


def test_a_few_pages_are_ingested_in_this_process(folder: Path, ingest: Ingest) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and no more")
    report = ingest()
    assert states(report) == {"indexed": 2, "failed": 1} and report.new_pages == 3
    with open_store(load_settings(store=str(folder / "data"))) as store:
        documents = store.documents(status="indexed")
        assert sorted(len(store.pages_present(each)) for each in documents) == [1, 2]
    assert len(list((folder / "data" / "pages").rglob("*.jpg"))) == 3


def test_what_is_unchanged_is_told_by_its_stamp(
    folder: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {each.source: each.doc_id for each in ingest().documents}
    os.utime(folder / "manual.pdf", (1, 1))
    assert states(ingest()) == {"unchanged": 2}  # its bytes were looked at, and its time noted
    with monkeypatch.context() as patched:
        patched.setattr("jobs.ingest.check.CheckDocuments.check", None)
        report = ingest()
    assert states(report) == {"unchanged": 2}
    assert {each.pages for each in report.documents} == {1, 2}
    save(a_document("The second edition of the gearbox manual"), folder / "manual.pdf")
    report = ingest()
    assert states(report) == {"indexed": 1, "unchanged": 1}
    (changed,) = [each for each in report.documents if each.state == "indexed"]
    assert changed.replaced == [before[changed.source]]


@pytest.mark.long
def test_other_tags_chunks_or_readings_are_no_unchanged_document(ingest: Ingest) -> None:
    ingest()
    assert states(ingest(tags=("manuals",))) == {"updated": 2}
    assert states(ingest(tags=("manuals",))) == {"unchanged": 2}
    assert states(ingest(chunk_chars=400)) == {"indexed": 2}
    assert states(ingest(chunk_chars=400)) == {"unchanged": 2}
    assert states(ingest(chunk_chars=400, quality="on")) == {"indexed": 2}
    assert states(ingest(chunk_chars=400, quality="on")) == {"unchanged": 2}


def test_verify_looks_at_what_stamps_do_not_tell(folder: Path, ingest: Ingest) -> None:
    ingest()
    pictures = list((folder / "data" / "pages").rglob("*.jpg"))
    pictures[0].unlink()
    assert states(ingest()) == {"unchanged": 2} and not pictures[0].exists()
    assert states(ingest(verify=True)) == {"indexed": 1, "unchanged": 1}
    assert pictures[0].exists()
    forget_documents(load_settings(store=str(folder / "data")), path=str(folder / "receipt.pdf"))
    assert states(ingest()) == {"indexed": 1, "unchanged": 1}


def test_chunks_are_kept_without_vectors(folder: Path, ingest: Ingest) -> None:
    words = [f"Paragraph {number} about brake pads." for number in range(30)]
    save(a_document("\n".join([*words, "The torque wrench."])), folder / "brakes.pdf")
    assert states(ingest(chunk_vectors="off", chunk_chars=250)) == {"indexed": 3}
    assert states(ingest(chunk_chars=280)) == {"indexed": 3}  # the collection stays as it was made
    with open_store(load_settings(store=str(folder / "data"))) as store:
        (hit,) = store.search(vector=None, text="wrench", wanted=Filter(), mode="text", top_k=5)
        vector = [1.0] * store.required().fingerprint.dimension
        hits = store.search(vector=vector, text="", wanted=Filter(), mode="dense", top_k=5)
    assert hit.text.endswith("torque wrench.") and "Paragraph 0" not in hit.text
    assert len(hits) == 4 and all(each.fused is None for each in hits)


def test_the_stages_leave_no_process_behind(ingest: Ingest) -> None:
    ingest()
    children = psutil.Process().children(recursive=True)
    alive = [each for each in children if each.status() != psutil.STATUS_ZOMBIE]
    assert not [each for each in alive if "jobs.rendering.process" in " ".join(each.cmdline())]
