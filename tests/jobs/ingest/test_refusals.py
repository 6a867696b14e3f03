"""Commands and ingests that are refused in one line."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.report_file import read_entries
from models.registry import TINY_FOLDER, registry
from quire import app
from tests.support.documents import a_document, save
from tests.support.ray_process import RayProcess


def test_another_model_is_refused_by_both_names(
    library: Path, report: Any, ray_process: RayProcess
) -> None:
    wrong = ray_process.quire("ingest", "pdfs", "--dimensions", 64, folder=library, expect=2).stderr
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


def test_a_model_that_cannot_be_loaded_ends_the_ingest_in_one_line(
    tmp_path: Path, ray_process: RayProcess
) -> None:
    save(a_document("One page"), tmp_path / "one.pdf")
    broken = tmp_path / "broken"
    shutil.copytree(TINY_FOLDER, broken)
    (broken / "tokenizer.json").unlink()
    done = ray_process.quire("ingest", "one.pdf", "--model", broken, folder=tmp_path, expect=2)
    assert "ModelUnavailable" in done.stderr
    assert "tokenizer.json" in done.stderr
    assert "Traceback" not in done.stderr
    (report,) = (tmp_path / "quire-data" / "reports").glob("*.jsonl")
    _, document, summary = read_entries(report)
    assert (document["state"], document["reason"]) == ("failed", "interrupted")
    assert summary["summary"]["states"] == {"failed": 1}
