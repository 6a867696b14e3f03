"""Ingest, search and forget through the command line, on real files with a real Ray and Milvus."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pymupdf
import pytest
from PIL import Image
from typer.testing import CliRunner

from cluster.core import Filter, Hit, Query
from cluster.settings import load_settings
from cluster.store.milvus import open_store
from models.registry import TINY_FOLDER, registry
from models.retrieval.local import open_retriever
from quire import app
from tests.support import documents as make
from tests.support.documents import ENGLISH, JAPANESE, a_document, laughs, save

TIMEOUT_S = 240
ROOT = Path(__file__).resolve().parents[2]
KOREAN = "영수증 제 사천칠백십일호 구리 파이프"


def quire(
    *arguments: object, folder: Path, expect: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "quire", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def quire_json(*arguments: object, folder: Path, expect: int = 0, **environment: str) -> Any:
    return json.loads(
        quire(*arguments, "--json", folder=folder, expect=expect, **environment).stdout
    )


REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "locked.pdf": (make.make_encrypted, "skipped", "encrypted"),
    "empty.pdf": (Path.touch, "skipped", "empty"),
    "no-pages.pdf": (make.make_without_pages, "skipped", "no_pages"),
    "login.pdf": (make.make_html, "skipped", "mislabelled"),
    "picture.pdf": (make.make_png, "skipped", "mislabelled"),
    "cut.pdf": (make.make_truncated, "failed", "corrupt"),
    "noise.pdf": (make.make_garbage, "failed", "corrupt"),
    "bomb.png": (make.make_bomb, "failed", "too_many_pixels"),
    "endless.pdf": (laughs, "failed", "timeout"),
    "huge.pdf": (lambda path: path.write_bytes(bytes(3 * 2**20)), "skipped", "too_large"),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good documents, every kind of bad one, and an index of it all."""
    folder = tmp_path_factory.mktemp("library")
    pdfs = folder / "pdfs"
    (pdfs / "deeper").mkdir(parents=True)
    save(a_document(ENGLISH, JAPANESE), pdfs / "invoice.pdf")
    save(a_document(KOREAN, font="korea"), pdfs / "deeper" / "receipt.pdf")
    save(a_document(*(f"Chapter {n} of the gearbox manual" for n in range(1, 31))), pdfs / "m.pdf")
    with pymupdf.open(pdfs / "invoice.pdf") as document:
        scan = document[0].get_pixmap(dpi=150)
        Image.frombytes("RGB", (scan.width, scan.height), scan.samples).save(pdfs / "scan.png")
    lines = [f"Sheet {n} of the survey\n" * 24 for n in range(12)]
    sheets_of_text = a_document(*lines, width=842, height=595)
    save(scanned(sheets_of_text), pdfs / "slow.pdf", deflate=True)
    sheets = [Image.new("RGB", (320, 240), colour) for colour in ("white", "navy", "olive")]
    sheets[0].save(pdfs / "fax.tiff", save_all=True, append_images=sheets[1:])
    (pdfs / "copy.pdf").write_bytes((pdfs / "deeper" / "receipt.pdf").read_bytes())
    for name, (write, _, _) in REFUSED.items():
        write(pdfs / name)
    return folder


def scanned(source: pymupdf.Document) -> pymupdf.Document:
    """The same pages as pictures, which take a second of OCR each."""
    scans = pymupdf.open()
    for number in range(source.page_count):
        page = source[number]
        scans.new_page(width=842, height=595).insert_image(
            page.rect, pixmap=page.get_pixmap(dpi=100)
        )
    return scans


LIMITS = {
    "QUIRE_PAGE_TIMEOUT_S": "6",
    "QUIRE_MAX_DOCUMENT_BYTES": str(2 * 2**20),
    "QUIRE_RENDER_WORKERS": "2",
    "QUIRE_SHARD_PAGES": "4",
}


@pytest.fixture(scope="module")
def report(library: Path) -> Any:
    return quire_json(
        "ingest", "pdfs", "--tag", "tests", "--meta", "year=2026", "--tenant", "acme",
        folder=library, expect=1, **LIMITS,
    )  # fmt: skip


def by_name(report: Any) -> dict[str, Any]:
    return {Path(each["source"]).name: each for each in report["documents"]}


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


def test_rows_carry_what_was_given(library: Path, report: Any) -> None:
    listed = quire_json("documents", folder=library)
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
    (file,) = (library / "quire-data" / "reports").glob("*.json")
    assert json.loads(file.read_text())["states"] == report["states"]


@pytest.fixture(scope="module")
def search(library: Path, report: Any) -> Iterator[Callable[..., list[Hit]]]:
    """Searches the index with one loaded embedder; `options` are settings."""
    store = str(library / "quire-data")
    with open_retriever(load_settings(store=store)) as retriever:
        yield lambda query, **options: retriever.hits(query, load_settings(store=store, **options))


Search = Callable[..., list[Hit]]


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
    assert (first.fused is not None) == (mode == "hybrid")


def test_a_number_finds_its_page(search: Search) -> None:
    assert search(Query(text="chapter 17 gearbox"))[0].page == 17


def test_scanned_pages_are_read_by_ocr(search: Search) -> None:
    hits = search(Query(text="copper pallets"), mode="text")
    assert {Path(hit.source).name for hit in hits} == {"invoice.pdf", "scan.png"}
    assert all(hit.text_score and hit.dense is None for hit in hits)


def test_search_by_screenshot_and_both(search: Search, library: Path) -> None:
    with Image.open(library / "pdfs" / "scan.png") as scan:
        shot = scan.convert("RGB").resize((scan.width // 2, scan.height // 2))
    found = [Path(hit.source).name for hit in search(Query(image=shot))]
    assert "scan.png" in found[:2]  # the page it is a scan of looks the same
    both = search(Query(text="gearbox", image=shot), top_k=40)
    assert {"m.pdf", "scan.png"} <= {Path(hit.source).name for hit in both}


def test_search_filters(search: Search) -> None:
    def count(**wanted: Any) -> int:
        return len(search(Query(text="gearbox", filter=Filter(**wanted)), mode="text", top_k=50))

    assert count(tenant="acme", tags=("tests",), metadata={"year": 2026}) == 30
    assert count(tenant="other") == count(tags=("no",)) == count(metadata={"year": "2026"}) == 0
    assert count(after=datetime(2999, 1, 1, tzinfo=UTC)) == 0


def test_output_for_people(library: Path, report: Any) -> None:
    shown = quire("search", "銅管三パレット", "--mode", "hybrid", folder=library).stdout
    assert "invoice.pdf" in shown
    assert "page 2" in shown
    assert "銅管三パレット" in shown
    assert "quire-tiny" in quire("status", folder=library).stdout


def test_another_model_is_refused_by_both_names(library: Path, report: Any) -> None:
    wrong = quire("ingest", "pdfs", "--dimensions", 64, folder=library, expect=2).stderr
    assert "FingerprintMismatch" in wrong
    assert f"{registry.find_spec('quire-tiny').dimension}d" in wrong
    assert "64d" in wrong
    assert "Traceback" not in wrong


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "x", "--dimensions", "64"),
        ("search", "x", "--store", "nowhere"),
        ("search", ""),
        ("search", "x", "--image", "nowhere.png"),
        ("search", "x", "--mode", "magic"),
        ("search", "x", "--model", "gpt-17"),
        ("search", "x", "--meta", "no-equals"),
        ("search", "x", "--document", '" or 1 == 1'),
        ("status", "--store", "nowhere"),
        ("ingest", "nowhere"),
        ("forget",),
        ("forget", '" or 1 == 1'),
    ],
)
def test_errors_are_one_line_and_say_what_to_do(
    library: Path, report: Any, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(library)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2, done.output
    assert ": " in done.stderr
    assert "Traceback" not in done.stderr


def test_again_changed_and_forgotten(library: Path, report: Any) -> None:
    """What an index goes through: unchanged files, a changed one, a forgotten one."""
    before = quire_json("status", folder=library)[0]["pages"]
    old = by_name(report)["invoice.pdf"]["doc_id"]
    save(a_document("A new invoice for zinc plates"), library / "pdfs" / "invoice.pdf")
    again = by_name(
        quire_json(
            "ingest", "pdfs", "--tag", "tests", "--meta", "year=2026", "--tenant", "acme",
            "--glob", "[im]*.pdf", folder=library, expect=0, **LIMITS,
        )
    )  # fmt: skip
    assert again["m.pdf"]["state"] == "unchanged"
    assert (again["invoice.pdf"]["state"], again["invoice.pdf"]["replaced"]) == ("indexed", [old])
    assert quire_json("status", folder=library)[0]["pages"] == before - 1
    assert not list((library / "quire-data" / "pages").rglob(f"{old}/*.jpg"))

    path = library / "pdfs" / "m.pdf"
    (gone,) = quire_json("forget", "--path", path, folder=library)
    assert (gone["rows"], gone["images"]) == (60, 30)
    assert quire_json("search", "gearbox", "--mode", "text", folder=library) == []
    quire_json("forget", "--tenant", "acme", folder=library)
    assert quire_json("status", folder=library)[0]["pages"] == 0
    assert not list((library / "quire-data" / "pages").rglob("*.jpg"))


REINDEX = """
import json
from cluster.store.milvus import open_store
from cluster.runtime import ray_session
from cluster.settings import load_settings
from jobs.ingest.run import IngestRequest, run_ingest

def index(reindex, **options):
    settings = load_settings(store="quire-data", ocr="off", **options)
    report = run_ingest(settings, IngestRequest(("report.pdf",), reindex=reindex)).documents[0]
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

settings = load_settings(store="quire-data")
with ray_session(settings), open_store(settings) as store:
    index(again=False, chunk_chars=200, chunk_overlap=20)
    for _ in range(2):
        index(again=False, chunk_chars=200, chunk_overlap=20, multi_vectors="binary", quality="on")
    index(again=True, max_image_pixels=600_000)
    print(store.forget(store.documents()[0]))
    index(again=True)
"""


def test_indexed_again_nothing_of_before_is_left(tmp_path: Path) -> None:
    """Fewer chunks a page, a page that now fails, and a document that was deleted meanwhile.

    Multi-vectors and expected CERs that are wanted later are made later, once; a CER that is known
    stays when a page is done again without the predictor.
    """
    lines = "\n".join(f"line {n} of the report on bridges" for n in range(40))
    pages = a_document(lines, lines, lines)
    photo = make.png(Image.new("L", (1200, 1200)))
    pages[2].insert_image(pymupdf.Rect(300, 300, 500, 500), stream=photo)
    save(pages, tmp_path / "report.pdf")
    done = subprocess.run(
        [sys.executable, "-c", REINDEX],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=TIMEOUT_S,
    )
    first, more, same, again, rows, deleted = map(json.loads, done.stdout.splitlines())
    assert first == ["indexed", "", [], [["", [1, 2, 3], []]]]
    assert more == ["indexed", "", [], [["", [1, 2, 3], [1, 2, 3]]]]
    assert same[0] == "unchanged"
    assert again[:3] == ["indexed", "", [3]]
    ((error, present, foretold),) = again[3]
    assert "page 3: too_many_pixels" in error and present == foretold == [1, 2]
    assert rows == 2 * 3  # two pages with two chunks each; before they had seven and more
    assert deleted == ["skipped", "deleted", [], []]


def test_an_interrupted_ingest_goes_on(tmp_path: Path) -> None:
    """Killed at work and run again: no page is embedded twice, every page is there once."""
    pages = 240
    save(a_document(*(f"Sheet {n} of the survey" for n in range(pages))), tmp_path / "survey.pdf")
    command = [sys.executable, "-m", "quire", "ingest", "survey.pdf", "--json"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as first:
        assert first.stderr
        for line in first.stderr:
            if json.loads(line)["pages_done"] >= 16:
                first.send_signal(signal.SIGKILL)
                break
    settings = load_settings(store=str(tmp_path / "quire-data"))
    wait_until_quiet()
    with open_store(settings) as store:
        (document,) = store.documents()
        done = len(store.pages_present(document))
    assert document.status == "indexing"
    assert 16 <= done < pages
    report = quire_json("ingest", "survey.pdf", folder=tmp_path)
    assert report["documents"][0]["state"] == "indexed"
    assert report["new_pages"] == pages - done
    with open_store(settings) as store:
        assert store.pages_present(document) == set(range(1, pages + 1))
        assert store.count_pages() == pages


def wait_until_quiet(timeout_s: float = 60) -> None:
    """Wait until the workers of a killed Ray are gone: they may still write."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        names = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
        if not any("ray::Map" in name for name in names):
            return
        time.sleep(0.5)
    raise AssertionError("the workers of the killed job live on")


def test_files_that_move_change_or_never_end(tmp_path: Path) -> None:
    """Rotated names, brackets in names, a pipe, and a name that is no UTF-8."""
    pdfs = tmp_path / "pdfs"
    pdfs.mkdir()
    save(a_document("The first report, on bridges"), pdfs / "new [1].pdf")
    os.mkfifo(pdfs / "pipe.pdf")
    (pdfs / os.fsdecode(b"caf\xe9.pdf")).write_bytes((pdfs / "new [1].pdf").read_bytes()[:200])
    first = quire_json("ingest", "pdfs", folder=tmp_path, expect=1)
    states = {each["reason"]: each["state"] for each in first["documents"]}
    assert states == {"": "indexed", "unsupported": "skipped", "corrupt": "failed"}

    (pdfs / "new [1].pdf").rename(pdfs / "old.pdf")
    save(a_document("The second report, on tunnels"), pdfs / "new [1].pdf")
    second = by_name(
        quire_json("ingest", "pdfs/../pdfs/new [1].pdf", "pdfs/old.pdf", folder=tmp_path)
    )
    assert second["new [1].pdf"]["state"] == second["old.pdf"]["state"] == "indexed"
    store = str(tmp_path / "quire-data")
    with open_retriever(load_settings(store=store, mode="text")) as retriever:
        for word, name in (("bridges", "old.pdf"), ("tunnels", "new [1].pdf")):
            (hit,) = retriever.hits(Query(text=word), load_settings(store=store, mode="text"))
            assert Path(hit.source).name == name


def test_a_model_that_cannot_be_loaded_ends_the_ingest_in_one_line(tmp_path: Path) -> None:
    save(a_document("One page"), tmp_path / "one.pdf")
    broken = tmp_path / "broken"
    shutil.copytree(TINY_FOLDER, broken)
    (broken / "tokenizer.json").unlink()
    done = quire("ingest", "one.pdf", "--model", broken, folder=tmp_path, expect=2)
    assert "ModelUnavailable" in done.stderr
    assert "tokenizer.json" in done.stderr
    assert "Traceback" not in done.stderr
    (report,) = (tmp_path / "quire-data" / "reports").glob("*.json")
    (document,) = json.loads(report.read_text())["documents"]
    assert (document["state"], document["reason"]) == ("failed", "interrupted")
