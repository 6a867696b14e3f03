"""Folds, figures, and the report of both."""

import numpy as np

from jobs.ocr_quality.fit import folds, metrics
from jobs.ocr_quality.train import remarks


def test_documents_stay_whole_in_folds() -> None:
    documents = np.repeat(["a", "b", "c", "d", "e", "f"], 4)
    for seen, left in folds(documents, 3):
        assert not set(documents[seen]) & set(documents[left])


def test_figures() -> None:
    true = np.array([0.0, 0.1, 0.3, 0.9])
    perfect = metrics(true, true)
    assert (perfect["mae"], perfect["spearman"], perfect["auroc"]) == (0, 1, 1)
    mean = metrics(true, np.full(4, true.mean()))
    assert mean["of_mean"] == 1
    assert np.isnan(mean["spearman"])


def test_the_report_says_when_vectors_lose() -> None:
    rows = [
        {"features": "statistics", "mae": 0.1},
        {"features": "vectors mean", "mae": 0.2},
        {"features": "hidden mean", "mae": 0.15},
        {"features": "statistics + vectors mean", "mae": 0.11},
        {"features": "statistics + hidden mean", "mae": 0.09},
    ]
    said = " ".join(remarks(rows))
    assert "projected vectors alone lose to image statistics" in said
    assert "projected vectors does not improve" in said
    assert "before projection improves" in said
    assert "lose to the wider states" in said
