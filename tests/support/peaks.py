"""The most bytes that tensors hold at once during a forward, without computing it.

On torch's meta device a model of any size has shapes and no data: so the real 2B and 8B can be
followed here, tensor by tensor, as they live and die.
"""

import weakref
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Qwen3VLModel

from cluster.capacity.shapes import ModelShape
from models.engine.random_weights import config_of
from models.qwen3_vl.forward import PackedQwen3VL
from models.qwen3_vl.packing import PackedBatch


class PeakBytes(TorchDispatchMode):
    """Counts storages that are made while it is on, until nothing refers to them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._live:
            self._live[storage._cdata] = storage.nbytes()
            self.peak = max(self.peak, sum(self._live.values()))
            weakref.finalize(storage, self._live.pop, storage._cdata, None)


def meta_model(shape: ModelShape) -> PackedQwen3VL:
    """A bf16 Qwen3-VL of this shape without data, as PackedQwen3VL runs it."""
    with torch.device("meta"):
        model = Qwen3VLModel._from_config(config_of(shape), dtype=torch.bfloat16)
    return PackedQwen3VL(model, [0.5] * 3, [0.5] * 3)


def flash_like(query: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """What flash attention allocates: its output, and a float32 for each token and head."""
    torch.empty(query.shape[:2], dtype=torch.float32, device=query.device)
    return torch.empty_like(query)


def batch_of(
    pages: int, height: int, width: int, *, prompt: int = 22, texts: int = 0
) -> PackedBatch:
    """So many page images in their prompts, and texts of 350 tokens."""
    visual = height * width // 1024
    tokens = visual + prompt
    lengths = (tokens,) * pages + (350,) * texts
    total = sum(lengths)
    index = [np.arange(visual) + page * tokens for page in range(pages)]
    return PackedBatch(
        token_ids=np.zeros(total, np.int64),
        positions=np.zeros((3, total), np.int64),
        visual_index=np.concatenate(index) if index else np.empty(0, np.int64),
        lengths=lengths,
        visuals=tuple(np.zeros((1, height, width, 3), np.uint8) for _ in range(pages)),
        prefixes=(None,) * len(lengths),
    )
