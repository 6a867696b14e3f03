"""From the many vectors of a page to one, or to fewer."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from cluster.errors import InvalidInput

PagePooling = Literal["mean", "max", "std", "concat", "attention"]


def pool_tokens(tokens: np.ndarray, pooling: PagePooling) -> np.ndarray:
    """Return a page's tokens float32[N, d] → float32[d]; "concat" is mean‖max‖std, float32[3d].

    "attention" weighs each token by softmax(t·m / (√d·σ)) with the mean token m and the standard
    deviation σ of t·m / √d: tokens like the page as a whole count more, whatever their scale.
    Give it real tokens only. Raises InvalidInput where there is none.
    """
    if len(tokens) == 0:
        raise InvalidInput("a page without tokens cannot be pooled")
    tokens = np.asarray(tokens, np.float32)
    if pooling == "mean":
        return np.asarray(tokens.mean(axis=0))
    if pooling == "max":
        return np.asarray(tokens.max(axis=0))
    if pooling == "std":
        return np.asarray(tokens.std(axis=0))
    if pooling == "attention":
        return _attended(tokens)
    parts: Sequence[PagePooling] = ("mean", "max", "std")
    return np.concatenate([pool_tokens(tokens, part) for part in parts])


def _attended(tokens: np.ndarray) -> np.ndarray:
    scores = tokens @ tokens.mean(axis=0)
    spread = scores.std()
    logits = (scores - scores.max()) / spread if spread > 0 else np.zeros_like(scores)
    weights = np.exp(logits)
    return np.asarray(weights @ tokens / weights.sum(), np.float32)


def merge_tokens(vectors: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """A page's vectors float32[N, d] → float32[N // factor, d], and whose each is, uint16[N].

    Ward clusters by similarity, their means at unit length (colpali-engine's hierarchical token
    pooling; Clavié et al., "token pooling", arXiv:2409.14683).
    """
    import torch
    from colpali_engine.compression.token_pooling import HierarchicalTokenPooler

    pooled = HierarchicalTokenPooler().pool_embeddings(
        [torch.from_numpy(vectors)], pool_factor=factor, return_dict=True
    )
    members = np.zeros(len(vectors), np.uint16)
    start = 0
    for (cells,) in pooled.cluster_id_to_indices[0].values():
        if len(cells):
            members[cells.numpy()] = start
            start += 1
    return pooled.pooled_embeddings[0].numpy(), members
