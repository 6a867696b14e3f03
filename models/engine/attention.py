"""Variable-length attention over packed sequences, without padding and without host syncs."""

from dataclasses import dataclass
from functools import cache

import torch
from torch.nn import functional

from models.engine.device import to_device


@dataclass(frozen=True)
class Segments:
    """Where sequences lie in a packed tensor: lengths on the host, their cumulative sum int32."""

    lengths: tuple[int, ...]
    cumulative: torch.Tensor
    longest: int

    @classmethod
    def of(cls, lengths: tuple[int, ...], device: torch.device) -> "Segments":
        cumulative = torch.tensor((0, *lengths)).cumsum(0).to(torch.int32)
        return cls(lengths, to_device(cumulative, device), max(lengths))


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    queries: Segments,
    keys: Segments,
    *,
    causal: bool,
    scale: float,
) -> torch.Tensor:
    """Attention within each segment; [tokens, heads, head_dim] in and out.

    Key and value may have fewer heads (grouped queries). With `causal` the last query of a segment
    sees all of its keys, and each query before it one less: more keys than queries are a prefix.
    Flash attention's variable-length kernel on CUDA in half precision, SDPA elsewhere.
    """
    grouped = query.shape[1] != key.shape[1]
    if query.dtype in (torch.float16, torch.bfloat16) and _has_flash(query.device):
        from torch.nn.attention.varlen import varlen_attn  # brings torch's compilers along

        out = varlen_attn(
            query,
            key,
            value,
            queries.cumulative,
            keys.cumulative,
            queries.longest,
            keys.longest,
            scale=scale,
            window_size=(-1, 0) if causal else (-1, -1),
            enable_gqa=grouped,
        )
        return out if isinstance(out, torch.Tensor) else out[0]
    if grouped and query.is_cuda:
        # CUDA's memory-efficient SDPA knows no groups, and its fallback holds every score at once.
        repeat = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
        grouped = False
    parts = [
        _attend_one(q, k, v, causal=causal, scale=scale, grouped=grouped)
        for q, k, v in zip(
            query.split(queries.lengths),
            key.split(keys.lengths),
            value.split(keys.lengths),
            strict=True,
        )
    ]
    return torch.cat(parts)


def _attend_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    causal: bool,
    scale: float,
    grouped: bool,
) -> torch.Tensor:
    """Attend within one segment by SDPA; [tokens, heads, head_dim] in and out."""
    missing = len(key) - len(query) if causal else 0
    if missing:
        # SDPA aligns fewer queries with the first keys, and with a mask it takes twice as long:
        # so empty queries stand for the prefix.
        query = functional.pad(query, (0, 0, 0, 0, missing, 0))
    seen = functional.scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        key.transpose(0, 1)[None],
        value.transpose(0, 1)[None],
        is_causal=causal,
        scale=scale,
        enable_gqa=grouped,
    )
    return seen[0].transpose(0, 1)[missing:]


@cache
def _has_flash(device: torch.device) -> bool:
    """Flash attention needs CUDA and compute capability 8.0 (Ampere) or newer."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
