"""From token states to one vector for each input."""

import torch

from models.options import Pooling


def pooled_rows(lengths: tuple[int, ...], pooling: Pooling) -> torch.Tensor | None:
    """The packed positions whose last-layer states pooling needs, int64[inputs]; None: all."""
    if pooling == "mean":
        return None
    return torch.tensor(lengths).cumsum(0) - 1


def pool(states: torch.Tensor, lengths: tuple[int, ...], pooling: Pooling) -> torch.Tensor:
    """Token states [rows, d] → [inputs, d]. For "last" the rows are those of `pooled_rows`."""
    if pooling == "last":
        return states
    return torch.stack([part.mean(dim=0) for part in states.split(lengths)])


def unit_vectors(vectors: torch.Tensor, dimension: int) -> torch.Tensor:
    """The first `dimension` components at unit length, float32 (Matryoshka, arXiv:2205.13147)."""
    return torch.nn.functional.normalize(vectors[:, :dimension].float(), dim=-1)
