"""Damage that is done to pages."""

import numpy as np
import pytest

from jobs.ocr_quality.degrade import EFFECTS, Effect, degrade, plan_effects
from tests.support.ocr_quality import a_page


@pytest.mark.parametrize("name", EFFECTS)
def test_every_effect_is_seeded_and_changes_the_page(name: str) -> None:
    gray = np.asarray(a_page(1)[0])
    effects = [Effect(name, 0.6)]
    first, second = (degrade(gray, effects, seed=5) for _ in range(2))
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert first.shape != gray.shape or not np.array_equal(first, gray)
    if name not in ("low_resolution", "skew"):
        assert first.shape == gray.shape


def test_plans_follow_from_the_seed() -> None:
    assert plan_effects(3) == plan_effects(3)
    plans = [plan_effects(seed) for seed in range(60)]
    assert {each.name for plan in plans for each in plan} == set(EFFECTS)
    assert all(1 <= len(plan) <= 4 for plan in plans)
    assert all(0 < each.severity <= 1 for plan in plans for each in plan)
