"""Confidence intervals and significance by the paired bootstrap over questions."""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
SEED = 0
CONFIDENCE = 0.95
MAX_CELLS = 2**23  # of counts that are held at once: 64 MiB


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A mean difference, and the p-value of there being none (two-sided)."""

    p: float


def mean_intervals(values: np.ndarray) -> list[Interval]:
    """Return the mean of each column with its percentile interval.

    values: float64[questions, metrics]. Source: Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, section 13.3.
    """
    if not len(values):
        return [Interval(0.0, 0.0, 0.0)] * values.shape[1]
    low, high = _bounds(_resampled_means(values))
    columns = zip(values.mean(axis=0), low, high, strict=True)
    return [Interval(*map(float, column)) for column in columns]


def paired_differences(values: np.ndarray, others: np.ndarray) -> list[Difference]:
    """Return the mean of `values - others` of each column, its interval and its p-value.

    Both float64[questions, metrics], row by row of the same questions. p is the share of resampled
    differences, moved so that their mean is none, that are at least as far from 0 as the one
    observed, with one added to both counts (Efron and Tibshirani, 1993, section 16.4; for retrieval
    Sakai, SIGIR 2006).
    """
    differences = values - others
    if not len(differences):
        return [Difference(0.0, 0.0, 0.0, 1.0)] * values.shape[1]
    observed = differences.mean(axis=0)
    means = _resampled_means(differences)
    low, high = _bounds(means)
    far = np.abs(means - observed) >= np.abs(observed) - 1e-12
    p = np.where(observed == 0, 1.0, (far.sum(axis=0) + 1) / (len(means) + 1))
    columns = zip(observed, low, high, p, strict=True)
    return [Difference(*map(float, column)) for column in columns]


def _resampled_means(values: np.ndarray) -> np.ndarray:
    """Return float64[resamples, metrics]: means over questions that were drawn with replacement."""
    rng = np.random.default_rng(SEED)
    questions = len(values)
    size = max(1, min(RESAMPLES, MAX_CELLS // questions))
    parts = [
        rng.multinomial(questions, np.full(questions, 1 / questions), size=min(size, rest))
        @ values
        / questions
        for rest in range(RESAMPLES, 0, -size)
    ]
    return np.concatenate(parts)


def _bounds(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (tail, 1 - tail), axis=0)
    return low, high
