"""Where the patches of a visual are: places in the table of learned positions, and coordinates."""

from functools import lru_cache

import torch


@lru_cache(maxsize=256)
def grid_positions(
    steps: int, rows: int, columns: int, merge: int, side: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return taps int64[P, 4], their weights float32[P, 4] and (row, column) int64[P, 2].

    Patches come step by step, in blocks of `merge` × `merge`. The table of side × side positions is
    interpolated bilinearly with its corners on the image's. Source: `transformers.vision_utils`.
    """
    grid = torch.stack(
        torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), dim=-1
    )
    blocks = grid.view(rows // merge, merge, columns // merge, merge, 2)
    coordinates = blocks.transpose(1, 2).reshape(-1, 2).repeat(steps, 1)
    row_taps, row_weights = _axis_taps(coordinates[:, 0], rows, side)
    column_taps, column_weights = _axis_taps(coordinates[:, 1], columns, side)
    taps = (row_taps[:, :, None] * side + column_taps[:, None, :]).flatten(1)
    weights = (row_weights[:, :, None] * column_weights[:, None, :]).flatten(1)
    return taps, weights, coordinates


def _axis_taps(index: torch.Tensor, size: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two neighbours int64[P, 2] in the table along one axis, and their weights."""
    source = index.float() * (side - 1) / max(1, size - 1)
    floor = torch.floor(source)
    offsets = torch.arange(2)
    taps = (floor.long()[:, None] + offsets).clamp(0, side - 1)
    weights = (1 - (source[:, None] - floor[:, None] - offsets).abs()).clamp(min=0)
    return taps, weights
