"""Choices of models, resolved without loading any."""

import pytest

from cluster.settings import load_settings
from models.options import EmbedderOptions, RerankerOptions


@pytest.mark.parametrize("has_gpu", [True, False, None])
def test_auto_is_what_the_device_computes_best_or_is_left_to_who_loads(
    has_gpu: bool | None,
) -> None:
    wanted = {True: "bf16", False: "fp32", None: "auto"}[has_gpu]
    settings = load_settings()
    assert EmbedderOptions.from_settings(settings, has_gpu=has_gpu).precision == wanted
    assert RerankerOptions.from_settings(settings, has_gpu=has_gpu).precision == wanted
    chosen = load_settings(precision="int8", rerank_precision="nf4")
    assert EmbedderOptions.from_settings(chosen, has_gpu=has_gpu).precision == "int8"
    assert RerankerOptions.from_settings(chosen, has_gpu=has_gpu).precision == "nf4"
