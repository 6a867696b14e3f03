"""Variable-length attention over packed sequences, without padding and without host syncs."""

from dataclasses import dataclass
from functools import cache

import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn


@dataclass(frozen=True)
class Segments:
    """Where sequences lie in a packed tensor: lengths on the host, their cumulative sum int32."""

    lengths: tuple[int, ...]
    cumulative: torch.Tensor
    longest: int

    @classmethod
    def of(cls, lengths: tuple[int, ...], device: torch.device) -> "Segments":
        cumulative = torch.tensor((0, *lengths)).cumsum(0).to(torch.int32)
        return cls(lengths, cumulative.to(device, non_blocking=True), max(lengths))


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
        functional.scaled_dot_product_attention(
            q.transpose(0, 1)[None],
            k.transpose(0, 1)[None],
            v.transpose(0, 1)[None],
            attn_mask=_lower_right(len(q), len(k), q.device) if causal else None,
            is_causal=causal and len(q) == len(k),
            scale=scale,
            enable_gqa=grouped,
        )[0].transpose(0, 1)
        for q, k, v in zip(
            query.split(queries.lengths),
            key.split(keys.lengths),
            value.split(keys.lengths),
            strict=True,
        )
    ]
    return torch.cat(parts)


def _lower_right(queries: int, keys: int, device: torch.device) -> torch.Tensor | None:
    """bool[queries, keys] for fewer queries than keys; None where `is_causal` says the same."""
    if queries == keys:
        return None
    every = torch.ones(queries, keys, dtype=torch.bool, device=device)
    return every.tril(diagonal=keys - queries)


@cache
def _has_flash(device: torch.device) -> bool:
    """Flash attention needs CUDA and compute capability 8.0 (Ampere) or newer."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
