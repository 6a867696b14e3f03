"""Measurements, which go before formulas."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.capacity.planner import PlannedModels
from cluster.capacity.profile import Measurement, Profile, load_profile
from cluster.capacity.shapes import QWEN3_VL_2B
from cluster.errors import InvalidInput
from cluster.settings import GIB
from tests.support.capacity import EMBEDDERS, MIB_PIXELS, planned


def test_measurements_go_before_formulas(tmp_path: Path) -> None:
    size = QWEN3_VL_2B.size
    measured = Measurement("L4", size, "bf16", MIB_PIXELS, 8192, 9.0, 6 * GIB, 0.2, 1.25)
    Profile().with_new((measured,)).save(tmp_path / "profile.json")
    profile = load_profile(tmp_path / "profile.json")
    assert profile == Profile((measured,))
    newer = replace(measured, efficiency=0.3)
    assert profile.with_new((newer,)).measurements == (newer,)
    models = PlannedModels(EMBEDDERS[:1])
    computed = planned(models, gpus="L4:1", pages=1000, precisions="bf16").plans[0]
    plan = planned(models, profile, gpus="L4:1", pages=1000, precisions="bf16").plans[0]
    assert plan.ingest and computed.ingest
    assert plan.ingest.pages_per_s == pytest.approx(computed.ingest.pages_per_s / 2)
    worker, formula = plan.ingest.workers[0], computed.ingest.workers[0]
    assert worker.memory.vision == pytest.approx(1.25 * formula.memory.vision, rel=1e-6)
    assert worker.measured and not formula.measured
    assert plan.expected_error < computed.expected_error
    with pytest.raises(InvalidInput, match="calibrate"):
        (tmp_path / "profile.json").write_text("[{}]")
        load_profile(tmp_path / "profile.json")
