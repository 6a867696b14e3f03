"""Prediction on the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quire import app
from tests.support.ocr_quality import a_page


@pytest.mark.services
def test_predict_prints_a_table_and_json(tmp_path: Path) -> None:
    a_page(6)[0].save(tmp_path / "a.png")
    (tmp_path / "b.pdf").write_text("<html>")
    done = CliRunner().invoke(app, ["quality", "predict", str(tmp_path)])
    assert done.exit_code == 1
    assert "a.png" in done.stdout
    assert "b.pdf" in done.stdout
    done = CliRunner().invoke(app, ["quality", "predict", str(tmp_path / "a.png"), "--json"])
    (row,) = json.loads(done.stdout)
    assert row["verdict"] in ("ocr", "rescan", "manual")
    assert 0 <= row["cer_low"] <= row["cer"] <= row["cer_high"] <= 1
