"""MaxSim over packed multi-vectors."""

import numpy as np
import torch
from colpali_engine.models import ColPaliProcessor
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.pages.vectors import Tile, pack_vectors
from models.late_interaction.maxsim import maxsim, similarities
from tests.support.late import unit


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    words=st.integers(1, 12),
    dimension=st.sampled_from([8, 128, 320]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_maxsim_is_colpali_engines(
    lengths: list[int], words: int, dimension: int, seed: int
) -> None:
    pages = [unit(length, dimension, seed + i) for i, length in enumerate(lengths)]
    query = unit(words, dimension, seed + 77)
    for storage in ("fp16", "int8", "binary"):
        packed = [pack_vectors(page, (Tile(1, len(page)),), storage=storage) for page in pages]
        decoded = [torch.from_numpy(page.decode()) for page in packed]
        # A page alone: padded with zeros beside a longer one, no product of its would count as
        # below zero.
        expected = [
            ColPaliProcessor.score_multi_vector(
                [torch.from_numpy(query)], [page], device="cpu"
            ).item()
            for page in decoded
        ]
        np.testing.assert_allclose(maxsim(query, packed), expected, atol=1e-4)


def test_the_best_cell_is_where_the_query_was_put() -> None:
    query = unit(3)
    page = unit(20, seed=5)
    page[[4, 9, 17]] = query
    packed = pack_vectors(page, (Tile(4, 5),), storage="int8")
    assert similarities(query, packed.cell_vectors).argmax(axis=1).tolist() == [4, 9, 17]
