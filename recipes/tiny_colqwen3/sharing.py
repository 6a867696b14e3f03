"""Layers of the vision tower that share weights over places while they are trained.

A letter may stand anywhere in a patch of 16 × 16 pixels. The dimensions of a patch are therefore
laid out as CHANNELS maps of 4 × 4 places, and the layers convolve them, so that what is learned at
one place holds at all. A convolution is a matrix with repeated entries: `matrix` writes them out,
and the checkpoint is a plain Qwen3-VL tower.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from recipes.tiny_colqwen3.architecture import VISION_HIDDEN, VISION_INTERMEDIATE

PLACES = 4
CHANNELS = VISION_HIDDEN // PLACES**2
_PATCH_PX = 16
_SHARED_UNITS = 64
_OWN_UNITS = VISION_INTERMEDIATE - _SHARED_UNITS * PLACES**2


class SharedPatches(nn.Module):
    """Patch embedding of grey patches [n, 256]: a convolution of 4 × 4 pixels without overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(1, CHANNELS, PLACES, stride=PLACES)
        with torch.no_grad():
            self.filters.weight.copy_(_cosines(CHANNELS)[:, None])
            white = self.filters.weight.sum((1, 2, 3))
        self.filters.bias = nn.Parameter(-white)  # white paper is zero

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.filters(patches.view(-1, 1, _PATCH_PX, _PATCH_PX)).flatten(1)
        return out

    def matrix(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight [VISION_HIDDEN, 256] and bias of the same linear layer."""
        bias = self(torch.zeros(1, _PATCH_PX**2))
        return (self(torch.eye(_PATCH_PX**2)) - bias).T, bias[0]


class SharedMlp(nn.Module):
    """MLP of a block: some units for each place, sharing weights, some for the whole patch.

    What the shared units find goes back to their places, or, if `pooled`, to any dimension: letters
    are more than CHANNELS, and where exactly they stand no longer matters.
    """

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.spread = nn.Conv2d(CHANNELS, _SHARED_UNITS, 3, padding=1)
        self.gather = (
            nn.Linear(_SHARED_UNITS * PLACES**2, VISION_HIDDEN, bias=False)
            if pooled
            else nn.Conv2d(_SHARED_UNITS, CHANNELS, 1, bias=False)
        )
        self.own_in = nn.Linear(VISION_HIDDEN, _OWN_UNITS)
        self.own_out = nn.Linear(_OWN_UNITS, VISION_HIDDEN)
        with torch.no_grad():
            for layer, gain in ((self.spread, 1.0), (self.gather, 0.5), (self.own_in, 1.0)):
                fan_in = layer.weight[0].numel()
                nn.init.normal_(layer.weight, std=gain * fan_in**-0.5)
            if pooled:  # wherever a unit finds something, it says the same at first
                same = torch.randn(VISION_HIDDEN, _SHARED_UNITS) * 0.5 / _SHARED_UNITS**0.5 / PLACES
                self.gather.weight.copy_(same.repeat_interleave(PLACES**2, dim=1))
            nn.init.normal_(self.own_out.weight, std=0.3 * _OWN_UNITS**-0.5)
            for layer in (self.spread, self.own_in, self.own_out):
                layer.bias = nn.Parameter(torch.zeros(len(layer.weight)))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        maps = hidden.view(-1, CHANNELS, PLACES, PLACES)
        shared = functional.gelu(self.spread(maps), approximate="tanh")
        shared = self.gather(shared.flatten(1) if isinstance(self.gather, nn.Linear) else shared)
        own = self.own_out(functional.gelu(self.own_in(hidden), approximate="tanh"))
        out: torch.Tensor = shared.flatten(1).view_as(hidden) + own
        return out

    def state(self) -> dict[str, torch.Tensor]:
        """The weights of the same MLP under the names of Qwen3-VL."""
        shared_in, shared_bias = _written_out(self.spread, CHANNELS)
        shared_out = self.gather.weight
        if isinstance(self.gather, nn.Conv2d):
            shared_out, _ = _written_out(self.gather, _SHARED_UNITS)
        return {
            "linear_fc1.weight": torch.cat([shared_in, self.own_in.weight]),
            "linear_fc1.bias": torch.cat([shared_bias, self.own_in.bias]),
            "linear_fc2.weight": torch.cat([shared_out, self.own_out.weight], dim=1),
            "linear_fc2.bias": self.own_out.bias,
        }


def _written_out(layer: nn.Conv2d, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the linear layer that does what a convolution does to maps."""
    size = channels * PLACES**2
    bias = layer(torch.zeros(1, channels, PLACES, PLACES)).flatten(1)
    maps = torch.eye(size).view(size, channels, PLACES, PLACES)
    return (layer(maps).flatten(1) - bias).T, bias[0]


def _cosines(count: int) -> torch.Tensor:
    """(count, 4, 4): the lowest two-dimensional DCT-II filters."""
    n = torch.arange(PLACES)
    waves = torch.cos(math.pi * n[:, None] * (2 * n[None, :] + 1) / (2 * PLACES))
    waves = functional.normalize(waves, dim=-1)
    order = sorted((u + v, u, v) for u in range(PLACES) for v in range(PLACES))
    return torch.stack([torch.outer(waves[u], waves[v]) for _, u, v in order[:count]])
