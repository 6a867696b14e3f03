"""What an operator does with an ingest: look before, prune after, follow a folder, retry."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from quire import app
from tests.support.documents import a_document, make_truncated, save
from tests.support.ray_process import RayProcess

FAST: dict[str, Any] = {
    "QUIRE_MAX_PIXELS": "32768",
    "QUIRE_OCR": "off",
    "QUIRE_RENDER_WORKERS": "1",
}
FOLLOW = """
import json, shutil
from pathlib import Path
from cluster.settings import load_settings
from jobs.ingest.follow import follow_folders
from jobs.ingest.request import IngestRequest

settings = load_settings(
    store=str(Path("quire-data").resolve()), max_pixels=32_768, ocr="off", render_workers=1
)
reports = follow_folders(settings, IngestRequest(("in",)), every_s=0.2)
for name in ("", "c.pdf"):
    if name:
        shutil.copy("c.pdf", "in/c.pdf")
    print(json.dumps({Path(each.source).name: each.state for each in next(reports).documents}))
reports.close()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    save(a_document("The first report", "on bridges"), tmp_path / "in" / "a.pdf")
    save(a_document("The second report"), tmp_path / "in" / "b.pdf")
    return tmp_path


@pytest.mark.long
def test_a_document_s_way_with_its_operator(folder: Path, ray_process: RayProcess) -> None:
    def quire(*arguments: object, expect: int = 0, **options: str) -> Any:
        return ray_process.quire_json(*arguments, folder=folder, expect=expect, **FAST, **options)

    preview = quire("ingest", "in", "--dry-run")
    assert preview["documents"] == {"new": 2} and preview["pages"] == 3
    assert preview["seconds"] is None and not (folder / "quire-data").exists()

    make_truncated(folder / "in" / "cut.pdf")
    quire("ingest", "in", expect=1)
    (failure,) = quire("failures")
    assert failure["source"].endswith("cut.pdf") and "corrupt" in failure["error"]

    save(a_document("Mended"), folder / "in" / "cut.pdf")
    preview = quire("ingest", "in", "--dry-run")
    assert preview["documents"] == {"unchanged": 2, "new": 1} and preview["pages"] == 1
    assert preview["seconds"] > 0
    assert quire("failures", "--retry")["states"] == {"indexed": 1}
    assert quire("failures") == []

    (folder / "in" / "b.pdf").unlink()
    quire("ingest", "in", "--prune", "--yes")
    kept = {Path(each["source"]).name for each in quire("documents")}
    assert kept == {"a.pdf", "cut.pdf"}
    for name in kept:
        (folder / "in" / name).unlink()
    done = ray_process.quire("ingest", "in", "--prune", "--yes", folder=folder, expect=2, **FAST)
    assert "is it mounted?" in done.stderr
    assert len(quire("documents")) == 2


@pytest.mark.long
def test_a_folder_is_followed(folder: Path, ray_process: RayProcess) -> None:
    save(a_document("The third report"), folder / "c.pdf")
    first, second = map(json.loads, ray_process.script(FOLLOW, folder).splitlines())
    assert first == {"a.pdf": "indexed", "b.pdf": "indexed"}
    assert second == {"c.pdf": "indexed"}


@pytest.mark.long
def test_documents_are_tagged_from_the_command_line(
    folder: Path, ray_process: RayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    ray_process.quire("ingest", "in", "--tag", "old", "--meta", "year=2025", folder=folder, **FAST)
    path = str(folder / "in" / "a.pdf")
    options = ["--add", "new", "--remove", "old", "--meta", "year=2026", "--title", "Bridges"]
    done = CliRunner().invoke(app, ["tag", "--path", path, *options, "--json"])
    assert done.exit_code == 0, done.output
    (changed,) = json.loads(done.stdout)
    assert (changed["tags"], changed["metadata"]) == (["new"], {"year": 2026})
    search = ["search", "bridges", "--mode", "text", "--tag", "new", "--json"]
    (hit,) = json.loads(CliRunner().invoke(app, search).stdout)
    assert (hit["title"], hit["metadata"]) == ("Bridges", {"year": 2026})
    again = ray_process.quire_json("ingest", "in", folder=folder, **FAST)
    assert again["states"] == {"unchanged": 2}
    (kept,) = [
        each
        for each in json.loads(CliRunner().invoke(app, ["documents", "--json"]).stdout)
        if each["tags"] == ["new"]
    ]
    assert kept["title"] == "Bridges"
