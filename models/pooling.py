"""From token states to one vector for each input."""

import torch

from models.options import Pooling


def pool(states: torch.Tensor, lengths: tuple[int, ...], pooling: Pooling) -> torch.Tensor:
    """Token states [rows, d] → [inputs, d]. For "last" each row is an input's last."""
    if pooling == "last":
        return states
    return torch.stack([part.mean(dim=0) for part in states.split(lengths)])


def unit_vectors(vectors: torch.Tensor, dimension: int) -> torch.Tensor:
    """The first `dimension` components at unit length, float32 (Matryoshka, arXiv:2205.13147)."""
    return torch.nn.functional.normalize(vectors[:, :dimension].float(), dim=-1)
