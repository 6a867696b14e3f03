"""Calibration on this machine."""

from pathlib import Path

from typer.testing import CliRunner

from cluster.capacity.profile import load_profile
from quire import app


def test_calibrated_here_and_planned_with(tmp_path: Path) -> None:
    kept = ("--store", str(tmp_path / "data"))
    done = CliRunner().invoke(app, ["calibrate", *kept, "--pixels", "65536"])
    assert done.exit_code == 0 and "pages/s" in done.output
    (found,) = load_profile(tmp_path / "data" / "calibration.json").measurements
    assert (found.gpu, found.precision, found.pixels) == ("CPU", "fp32", 65536)
    assert found.pages_per_s > 0 and found.efficiency > 0
    done = CliRunner().invoke(app, ["plan", "--gpus", "CPU", "--pages", "1000", *kept])
    assert "measured by `quire calibrate`" in done.output
    done = CliRunner().invoke(app, ["calibrate", "--precisions", "int3", *kept])
    assert done.exit_code == 2
