"""Batches under a budget of tokens, and inputs packed end to end without padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.errors import InvalidInput
from models.inputs import EncodedInput


@dataclass(frozen=True)
class PackedBatch:
    """Several inputs end to end: token_ids int64[N], positions int64[3, N], lengths of each."""

    token_ids: np.ndarray
    positions: np.ndarray
    visual_index: np.ndarray
    lengths: tuple[int, ...]
    visuals: tuple[np.ndarray, ...]


def plan_batches(tokens: Sequence[int], budget_tokens: int) -> list[list[int]]:
    """Indices of inputs by batch; no batch exceeds the budget.

    First-fit decreasing: longest first into the first batch with room, so that batches are few
    and full, and inputs of like length meet. Raises InvalidInput for an input over the budget.
    """
    batches: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(tokens)), key=lambda i: -tokens[i]):
        need = tokens[index]
        if need > budget_tokens:
            raise InvalidInput(
                f"an input of {need} tokens exceeds the batch budget of {budget_tokens}: raise "
                "batch_tokens or lower max_pixels"
            )
        place = next((i for i, free in enumerate(room) if free >= need), None)
        if place is None:
            batches.append([index])
            room.append(budget_tokens - need)
        else:
            batches[place].append(index)
            room[place] -= need
    return batches


def pack(items: Sequence[EncodedInput]) -> PackedBatch:
    """Lay inputs end to end; positions restart with each, so neighbours cannot matter."""
    starts = np.cumsum([0, *[item.tokens for item in items[:-1]]])
    return PackedBatch(
        token_ids=np.concatenate([item.token_ids for item in items]),
        positions=np.concatenate([item.positions for item in items], axis=1),
        visual_index=np.concatenate(
            [item.visual_index + start for item, start in zip(items, starts, strict=True)]
        ),
        lengths=tuple(item.tokens for item in items),
        visuals=tuple(visual for item in items for visual in item.visuals),
    )
