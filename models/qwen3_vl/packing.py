"""Inputs packed end to end without padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.inputs import EncodedInput


@dataclass(frozen=True)
class PackedBatch:
    """Several segments end to end: token_ids int64[N], positions int64[3, N], lengths of each.

    `prefixes`: for each segment the number of the segment that it continues, or None. Segments
    that continue one prefix do not see each other.
    """

    token_ids: np.ndarray
    positions: np.ndarray
    visual_index: np.ndarray
    lengths: tuple[int, ...]
    visuals: tuple[np.ndarray, ...]
    prefixes: tuple[int | None, ...]

    @property
    def ends(self) -> tuple[int, ...]:
        """Return the segments that no other continues: each ends an input."""
        inner = set(self.prefixes)
        return tuple(number for number in range(len(self.lengths)) if number not in inner)

    @property
    def end_rows(self) -> np.ndarray:
        """Return the packed position of each input's last token, int64[inputs]."""
        rows: np.ndarray = np.cumsum(self.lengths)[list(self.ends)] - 1
        return rows


def pack(
    items: Sequence[EncodedInput], prefixes: Sequence[int | None] | None = None
) -> PackedBatch:
    """Lay segments end to end; each has its own positions, so neighbours cannot matter."""
    starts = np.cumsum([0, *[item.tokens for item in items[:-1]]])
    return PackedBatch(
        token_ids=np.concatenate([item.token_ids for item in items]),
        positions=np.concatenate([item.positions for item in items], axis=1),
        visual_index=np.concatenate(
            [item.visual_index + start for item, start in zip(items, starts, strict=True)]
        ),
        lengths=tuple(item.tokens for item in items),
        visuals=tuple(visual for item in items for visual in item.visuals),
        prefixes=tuple(prefixes or [None] * len(items)),
    )
