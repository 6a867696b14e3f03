"""The Qwen3-VL forward over packed inputs, on models/engine/modules.py or a transformers model.

It computes what `Qwen3VLModel.forward` computes for each input alone, but without padding, KV
cache, lm_head, Conv3d or host syncs. Not covered: generation and training.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.nn import functional

from models.engine.attention import Segments, attend
from models.engine.device import to_device
from models.engine.modules import Qwen3VL
from models.qwen3_vl.grid_positions import grid_positions
from models.qwen3_vl.packing import PackedBatch
from models.qwen3_vl.visuals import FRAMES_PER_STEP, visual_tokens

if TYPE_CHECKING:
    from transformers import Qwen3VLModel


class PackedQwen3VL:
    """Runs packed batches on the model's device and in its precision."""

    def __init__(
        self, model: "Qwen3VL | Qwen3VLModel", image_mean: list[float], image_std: list[float]
    ) -> None:
        self.model = model.eval()
        # transformers composes these modules at run time; their types are not declared.
        self.visual = cast(Any, model.visual)
        self.language = cast(Any, model.language_model)
        self.device = self.visual.pos_embed.weight.device
        self.dtype = self.visual.pos_embed.weight.dtype
        self.patch = self.visual.patch_size
        self.merge = self.visual.spatial_merge_size
        weight = self.visual.patch_embed.proj.weight.detach()  # [h, channels, 2, patch, patch]
        self.video_weight = weight.flatten(1)
        # A still is the same frame twice, so its two temporal slices act as their sum.
        self.still_weight = weight.float().sum(dim=2).flatten(1).to(weight.dtype)
        self.patch_bias = self.visual.patch_embed.proj.bias.detach()
        # uint8 → (x / 255 - mean) / std as one multiplication and one addition
        std = torch.tensor(image_std, device=self.device).view(-1, 1, 1)
        self.pixel_scale = 1 / (255 * std)
        self.pixel_shift = -torch.tensor(image_mean, device=self.device).view(-1, 1, 1) / std

    @torch.inference_mode()
    def forward(self, batch: PackedBatch, rows: np.ndarray | None = None) -> torch.Tensor:
        """Last hidden states after the final norm, [rows, d]; all tokens where `rows` is None.

        `rows` are `batch.end_rows`, the last token of each input: only these pass through the last
        layer's queries and MLP.
        """
        device = self.device
        layout = _Layout.of(batch, device)
        hidden = self.language.embed_tokens(_to(batch.token_ids, device))
        features: list[torch.Tensor] = []
        visual_index = None
        if batch.visuals:
            visual_index = _to(batch.visual_index, device)
            merged, features = self._see(batch.visuals)
            hidden = hidden.index_copy(0, visual_index, merged.to(hidden.dtype))
        positions = _to(batch.positions, device)[:, None]
        cos, sin = (part[0, :, None] for part in self.language.rotary_emb(hidden, positions))
        last = len(self.language.layers) - 1
        pooled = None if rows is None else _to(rows, device)
        for number, layer in enumerate(self.language.layers):
            kept = pooled if number == last else None
            hidden = _decoder_layer(layer, hidden, cos, sin, layout, kept)
            if visual_index is not None and number < len(features):
                hidden = self._add_deepstack(hidden, features[number], visual_index, kept)
        return cast(torch.Tensor, self.language.norm(hidden))

    def _add_deepstack(
        self,
        hidden: torch.Tensor,
        feature: torch.Tensor,
        visual_index: torch.Tensor,
        kept: torch.Tensor | None,
    ) -> torch.Tensor:
        # Pooled rows are never visual tokens: an input ends on its closing token.
        if kept is not None:
            return hidden
        return hidden.index_add(0, visual_index, feature.to(hidden.dtype))

    def _see(self, visuals: tuple[np.ndarray, ...]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Images → merged visual tokens [V, d] and the deepstack features [V, d] of each level."""
        hidden = self._patch_states(visuals)
        indices, weights, coordinates = self._patch_positions(visuals)
        hidden = hidden + self._position_states(indices, weights).to(hidden.dtype)
        cos, sin = (part[:, None].float() for part in self._rotary(hidden, coordinates))
        # Every step of a video attends within itself.
        lengths = tuple(
            tokens * self.merge**2 for visual in visuals for tokens in visual_tokens(visual)
        )
        segments = Segments.of(lengths, self.device)
        features = []
        for number, block in enumerate(self.visual.blocks):
            hidden = _vision_block(block, hidden, cos, sin, segments)
            if number in self.visual.deepstack_visual_indexes:
                level = self.visual.deepstack_visual_indexes.index(number)
                features.append(self.visual.deepstack_merger_list[level](hidden))
        return self.visual.merger(hidden), features

    def _position_states(self, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """float32[P, h], tap by tap: all four at once would be the peak of the vision tower."""
        states = weights.new_zeros(len(indices), self.visual.pos_embed.embedding_dim)
        for rows, share in zip(indices.unbind(1), weights.unbind(1), strict=True):
            states += self.visual.pos_embed(rows) * share[:, None]
        return states

    def _rotary(
        self, hidden: torch.Tensor, coordinates: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return cast(
            tuple[torch.Tensor, torch.Tensor], self.visual.rotary_pos_emb(hidden, coordinates)
        )

    def _patch_states(self, visuals: tuple[np.ndarray, ...]) -> torch.Tensor:
        """uint8 images → patch embeddings [patches, h] by a matrix product."""
        sizes = [visual.size for visual in visuals]
        flat = np.concatenate([visual.reshape(-1) for visual in visuals])
        pixels = _to(flat, self.device).split(sizes)
        states = []
        for visual, data in zip(visuals, pixels, strict=True):
            patches = self._patches(data.view(visual.shape))
            weight = self.still_weight if len(visual) == 1 else self.video_weight
            states.append(functional.linear(patches, weight, self.patch_bias))
        return torch.cat(states)

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8[frames, height, width, 3] → [patches, 3 · (1 or 2) · 16 · 16], merge order."""
        frames, height, width, channels = pixels.shape
        depth = min(frames, FRAMES_PER_STEP)
        rows, columns = height // self.patch, width // self.patch
        grid = pixels.view(
            frames // depth,
            depth,
            rows // self.merge,
            self.merge,
            self.patch,
            columns // self.merge,
            self.merge,
            self.patch,
            channels,
        )
        # → step, row block, column block, row, column, channel, frame, patch row, patch column
        ordered = grid.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(
            -1, channels, depth * self.patch, self.patch
        )
        normal = ordered.float() * self.pixel_scale + self.pixel_shift
        return normal.flatten(1).to(self.dtype)

    def _patch_positions(
        self, visuals: tuple[np.ndarray, ...]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Taps int64[P, 4] and weights [P, 4] into the position table; coordinates int64[P, 2]."""
        parts = [
            grid_positions(
                max(1, visual.shape[0] // FRAMES_PER_STEP),
                visual.shape[1] // self.patch,
                visual.shape[2] // self.patch,
                self.merge,
                self.visual.num_grid_per_side,
            )
            for visual in visuals
        ]
        indices, weights, coordinates = (torch.cat(part) for part in zip(*parts, strict=True))
        return (
            to_device(indices, self.device),
            to_device(weights, self.device),
            to_device(coordinates, self.device),
        )


def _vision_block(
    block: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, segments: Segments
) -> torch.Tensor:
    hidden = hidden + _vision_attention(block.attn, block.norm1(hidden), cos, sin, segments)
    return cast(torch.Tensor, hidden + block.mlp(block.norm2(hidden)))


def _vision_attention(
    attention: Any, normal: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, segments: Segments
) -> torch.Tensor:
    """Apart from its block, so that its states are freed before the MLP takes as much."""
    qkv = attention.qkv(normal).view(len(normal), 3, attention.num_heads, -1)
    query, key, value = qkv.unbind(1)
    query = _rotate(query.float(), cos, sin).to(value.dtype)
    key = _rotate(key.float(), cos, sin).to(value.dtype)
    seen = attend(query, key, value, segments, segments, causal=False, scale=attention.scaling)
    return cast(torch.Tensor, attention.proj(seen.flatten(1)))


@dataclass(frozen=True)
class _Layout:
    """Who sees whom in a packed batch: queries, and the keys that each segment of them sees.

    `key_rows` int64 are the packed positions of those keys; None where every segment sees itself
    alone. `end_…` are the same for the segments that end an input.
    """

    queries: Segments
    keys: Segments
    key_rows: torch.Tensor | None
    end_keys: Segments
    end_key_rows: torch.Tensor | None

    @classmethod
    def of(cls, batch: PackedBatch, device: torch.device) -> "_Layout":
        queries = Segments.of(batch.lengths, device)
        if not any(prefix is not None for prefix in batch.prefixes):
            return cls(queries, queries, None, queries, None)
        starts = np.cumsum((0, *batch.lengths))
        spans = [np.arange(*span) for span in pairwise(starts)]
        seen = [
            span if prefix is None else np.concatenate((spans[prefix], span))
            for span, prefix in zip(spans, batch.prefixes, strict=True)
        ]
        at_end = [seen[number] for number in batch.ends]
        return cls(
            queries,
            Segments.of(tuple(map(len, seen)), device),
            _to(np.concatenate(seen), device),
            Segments.of(tuple(map(len, at_end)), device),
            _to(np.concatenate(at_end), device),
        )


def _decoder_layer(
    layer: Any,
    hidden: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    layout: _Layout,
    kept: torch.Tensor | None,
) -> torch.Tensor:
    """Run one decoder layer; with `kept` int64[inputs] only each input's last token."""
    hidden = (hidden if kept is None else hidden[kept]) + _text_attention(
        layer.self_attn, layer.input_layernorm(hidden), cos, sin, layout, kept
    )
    return cast(torch.Tensor, hidden + layer.mlp(layer.post_attention_layernorm(hidden)))


def _text_attention(
    attention: Any,
    normal: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    layout: _Layout,
    kept: torch.Tensor | None,
) -> torch.Tensor:
    queried = normal if kept is None else normal[kept]
    heads = (-1, attention.head_dim)
    query = attention.q_norm(attention.q_proj(queried).unflatten(1, heads))
    key = attention.k_norm(attention.k_proj(normal).unflatten(1, heads))
    value = attention.v_proj(normal).unflatten(1, heads)
    key = _rotate(key, cos, sin)
    scale = attention.scaling
    if kept is None:
        query = _rotate(query, cos, sin)
        key, value = (_seen(part, layout.key_rows) for part in (key, value))
        seen = attend(query, key, value, layout.queries, layout.keys, causal=True, scale=scale)
    else:
        # The last token may see its whole input, so no mask is needed.
        query = _rotate(query, cos[kept], sin[kept])
        single = Segments.of((1,) * len(kept), normal.device)
        key, value = (_seen(part, layout.end_key_rows) for part in (key, value))
        seen = attend(query, key, value, single, layout.end_keys, causal=False, scale=scale)
    return cast(torch.Tensor, attention.o_proj(seen.flatten(1)))


def _seen(states: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
    return states if rows is None else states[rows]


def _rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding; states [tokens, heads, head_dim], cos and sin [tokens, 1, …]."""
    half = states.shape[-1] // 2
    turned = torch.cat((-states[..., half:], states[..., :half]), dim=-1)
    return (states * cos).add_(turned.mul_(sin))  # in place: vision rotates in float32


def _to(array: np.ndarray, device: torch.device) -> torch.Tensor:
    return to_device(torch.from_numpy(np.ascontiguousarray(array)), device)
