"""Multi-vectors made fewer: tokens merged, and pooled to one."""

import numpy as np
import pytest

from cluster.errors import InvalidInput
from cluster.pages.vectors import Tile, from_bytes, pack_vectors, to_bytes
from models.late_interaction.pooling import merge_tokens, pool_tokens
from tests.support.late import unit


def test_merged_tokens_stand_for_their_cells() -> None:
    centres = unit(10)
    noise = 0.02 * unit(30, seed=1)
    near = np.repeat(centres, 3, axis=0) + noise
    vectors = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    merged, members = merge_tokens(vectors, 3)
    assert merged.shape == (10, 128)
    assert all(len(set(members[start : start + 3])) == 1 for start in range(0, 30, 3))
    assert len(set(members.tolist())) == 10
    packed = from_bytes(
        to_bytes(pack_vectors(merged, (Tile(5, 6),), storage="fp16", members=members))
    )
    assert packed.cell_vectors.shape == (30, 128)
    np.testing.assert_allclose((packed.cell_vectors * vectors).sum(axis=1), 1, atol=0.01)


@pytest.mark.parametrize("pooling", ["mean", "max", "std", "concat", "attention"])
def test_pooling_of_tokens(pooling: str) -> None:
    tokens = unit(50)
    pooled = pool_tokens(tokens, pooling)  # type: ignore[arg-type]
    parts = {"mean": tokens.mean(0), "max": tokens.max(0), "std": tokens.std(0)}
    expected = {**parts, "concat": np.concatenate(list(parts.values()))}
    if pooling != "attention":
        np.testing.assert_allclose(pooled, expected[pooling], atol=1e-6)
    else:
        assert pooled.shape == (128,)
        assert tokens.min() <= pooled.min() and pooled.max() <= tokens.max()
        np.testing.assert_allclose(pool_tokens(10 * tokens, "attention"), 10 * pooled, atol=1e-4)
    assert pool_tokens(tokens[:1], pooling).shape == pooled.shape  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        pool_tokens(tokens[:0], pooling)  # type: ignore[arg-type]
