"""Confidence intervals and p-values."""

import numpy as np

from jobs.evaluation.bootstrap import mean_intervals, paired_differences


def test_an_interval_is_that_of_the_normal_approximation_where_it_holds() -> None:
    values = (np.arange(400) % 4 == 0).astype(float)[:, None]
    (interval,) = mean_intervals(values)
    error = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert interval.mean == 0.25
    assert abs(interval.low - (0.25 - error)) < 0.005
    assert abs(interval.high - (0.25 + error)) < 0.005


def test_pairing_shows_a_small_difference_between_runs_that_vary_much() -> None:
    first = np.linspace(0, 1, 60)[:, None]
    (difference,) = paired_differences(first + 0.05, first)
    assert np.isclose(difference.mean, 0.05)
    assert difference.low > 0
    assert difference.p < 0.001


def test_no_difference_is_not_significant() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((2, 100, 1))
    (difference,) = paired_differences(first, second)
    assert difference.low < 0 < difference.high
    assert difference.p > 0.05
    (same,) = paired_differences(first, first)
    assert (same.mean, same.p) == (0, 1)


def test_p_values_are_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(40, 200))
    below = np.mean([each.p < 0.1 for each in paired_differences(values, 0 * values)])
    assert 0.04 < below < 0.2


def test_results_are_the_same_every_time() -> None:
    values = np.random.default_rng(1).random((30, 2))
    assert mean_intervals(values) == mean_intervals(values)
