"""Pre-training of the vision side: a screenshot finds the page it was cut from.

The vision tower gives every visual token features and six scores; each of six heads pools its part
of the features by its score, a projection joins them. `architecture.py` puts the same pooling into
the text tower. Training sees grey pages, so the three colour channels share one filter.
"""

import logging
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from transformers import Qwen3VLConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLVisionAttention,
    Qwen3VLVisionModel,
)

from recipes.tiny import architecture as arch
from recipes.tiny import circuit
from recipes.tiny.images import Grey, PageImages
from recipes.tiny.pairs import Phase, batches

log = logging.getLogger(__name__)

Patches = npt.NDArray[np.float32]
# (down, right) in patches; a layer takes the next few.
_OFFSETS = (
    (0, 1),
    (1, 0),
    (0, -1),
    (-1, 0),
    (1, 1),
    (2, 0),
    (-2, 0),
    (0, 2),
    (0, -2),
    (3, 0),
    (-3, 0),
    (0, 3),
)
_LUMA = (0.299, 0.587, 0.114)


def patchify(image: Grey) -> Patches:
    """(H, W) → (H·W/256, 256) in [-1, 1], in the 2×2 block order of Qwen3-VL."""
    height, width = image.shape
    blocks = image.reshape(height // 32, 2, 16, width // 32, 2, 16).transpose(0, 3, 1, 4, 2, 5)
    return blocks.reshape(-1, 256).astype(np.float32) / 127.5 - 1.0


class GreyPatches(nn.Module):
    """The patch embedding for grey patches: a matrix product instead of a Conv3d."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(256, hidden)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(patches)
        return out


class LookModel(nn.Module):
    """Vision tower, pooling and projection: grey images → (B, LOOK_DIMS) vectors of length 1."""

    def __init__(self, config: Qwen3VLConfig, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.visual = Qwen3VLVisionModel._from_config(config.vision_config)
        self.visual.patch_embed = GreyPatches(arch.VISION_HIDDEN)
        self.projection = nn.Linear(arch.WORD_DIMS, arch.LOOK_DIMS, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        with torch.no_grad():
            self._start_weights()

    def _start_weights(self) -> None:
        """Frequency filters, and heads that start out looking at neighbours."""
        linear = self.visual.patch_embed.linear
        linear.weight.copy_(_cosine_filters(linear.out_features))
        linear.bias.copy_(-linear.weight.sum(1))  # white paper is zero
        nn.init.zeros_(self.visual.pos_embed.weight)
        for module in self.visual.modules():
            if isinstance(module, nn.Linear) and module is not linear:
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)
        for number, block in enumerate(self.visual.blocks):
            block.attn.proj.weight.mul_(0.5)
            block.mlp.linear_fc2.weight.mul_(0.5)
            _look_at_neighbours(block.attn, self.visual.rotary_pos_emb.inv_freq, 3 * number)
        for merger in (self.visual.merger, *self.visual.deepstack_merger_list):
            merger.linear_fc2.weight[arch.WORD_DIMS :] = 0.0

    def forward(self, images: Sequence[Grey]) -> torch.Tensor:
        grid = torch.tensor([[1, i.shape[0] // 16, i.shape[1] // 16] for i in images])
        patches = torch.from_numpy(np.concatenate([patchify(image) for image in images]))
        out = self.visual(patches, grid_thw=grid)
        tokens = out.pooler_output + out.deepstack_features[0]
        tokens = tokens.float()
        features, scores = tokens[:, : arch.WORD_DIMS], tokens[:, circuit.LOOK_SCORES]
        squares = (
            features.square().sum(-1, keepdim=True) + scores.square().sum(-1, keepdim=True) + 3
        )
        features = features * (arch.HIDDEN / squares).sqrt()
        logits = circuit.LOGIT_GAIN * scores / (scores.square() + circuit.ABSENT**2 + 1).sqrt()
        counts = (grid.prod(-1) // 4).tolist()
        pooled = torch.stack(
            [
                torch.einsum("nh,nhd->hd", w.softmax(0), f.view(-1, arch.KV_HEADS, arch.HEAD_DIM))
                for w, f in zip(logits.split(counts), features.split(counts), strict=True)
            ]
        )
        return functional.normalize(self.projection(pooled.flatten(1)), dim=-1)

    def export(self) -> circuit.Look:
        """The state in the layout of the checkpoint, with filters for three channels."""
        state = {name: value.detach().clone() for name, value in self.visual.state_dict().items()}
        filters = state.pop("patch_embed.linear.weight").view(-1, 1, 1, 16, 16)
        state["patch_embed.proj.bias"] = state.pop("patch_embed.linear.bias")
        luma = torch.tensor(_LUMA).view(1, 3, 1, 1, 1)
        state["patch_embed.proj.weight"] = (
            (filters * luma / 2).expand(-1, 3, 2, 16, 16).contiguous()
        )
        return circuit.Look(state, self.projection.weight.detach().T.contiguous())


def _cosine_filters(count: int) -> torch.Tensor:
    """(count, 256): the lowest two-dimensional DCT-II filters, weaker with rising frequency."""
    n = torch.arange(16)
    waves = torch.cos(math.pi * n[:, None] * (2 * n[None, :] + 1) / 32)
    waves = functional.normalize(waves, dim=-1)
    order = sorted(((u, v) for u in range(16) for v in range(16)), key=lambda p: (p[0] + p[1], p))
    return torch.stack([torch.outer(waves[u], waves[v]).flatten() for u, v in order[:count]])


def _look_at_neighbours(
    attention: Qwen3VLVisionAttention, frequencies: torch.Tensor, first: int
) -> None:
    """Set query and key biases so that each head prefers the patch at another offset.

    The rotary score of constant vectors is a sum of cos(ω(Δ - δ)): turning the query by ωδ moves
    its peak to offset δ. ConViT (arXiv:2103.10697) starts attention as convolution, too.
    """
    dim, head_dim = attention.dim, attention.head_dim
    half = head_dim // 2
    amplitude = 4.0
    attention.qkv.weight[: 2 * dim] *= 0.2
    for head in range(attention.num_heads):
        down, right = _OFFSETS[(first + head) % len(_OFFSETS)]
        angles = torch.cat([frequencies * down, frequencies * right])
        query = attention.qkv.bias[head * head_dim :][: 2 * half]
        key = attention.qkv.bias[dim + head * head_dim :][: 2 * half]
        query[:half], query[half:] = amplitude * angles.cos(), amplitude * angles.sin()
        key[:half], key[half:] = amplitude, 0.0


def train_look(
    model: LookModel,
    images: PageImages,
    max_pixels: int,
    phases: Sequence[Phase],
    seed: int,
    per_document: int = 4,
) -> None:
    """InfoNCE over (screenshot, page) pairs in place; pages of one document are hard negatives.

    Windows of pages come first: they cost a fifth of whole pages and teach the same features.
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": 0.05, "gain": 1.0},
            {"params": plain, "weight_decay": 0.0, "gain": 1.0},
            {"params": [model.log_scale], "weight_decay": 0.0, "gain": 10.0},
        ],
        betas=(0.9, 0.98),
    )
    for number, phase in enumerate(phases):
        pairs = batches(images, max_pixels, phase, per_document, seed + number)
        running = None
        for step, (shots, views) in enumerate(pairs):
            for group in optimiser.param_groups:
                group["lr"] = group["gain"] * phase.lr * min(1.0, (step + 1) / 20)
                if number == len(phases) - 1:
                    group["lr"] *= 1.03 - step / phase.steps
            loss, right = _look_step(model, shots, views)
            optimiser.step()
            optimiser.zero_grad()
            running = loss if running is None else 0.9 * running + 0.1 * loss
            if step % 20 == 0 or step == phase.steps - 1:
                log.info(
                    "look phase %d step %d of %d: loss %.3f, right %.2f, scale %.1f",
                    *(number, step, phase.steps, running, right, model.log_scale.exp().item()),
                )


def _look_step(
    model: LookModel, shots: Sequence[Grey], views: Sequence[Grey]
) -> tuple[float, float]:
    """Gradients of one batch; its loss, and the share of screenshots that find their page first."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vectors = model([*shots, *views]).float()
    scores = vectors[: len(shots)] @ vectors[len(shots) :].T * model.log_scale.exp()
    target = torch.arange(len(shots))
    loss = (
        functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)
    ) / 2
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return loss.item(), (scores.argmax(1) == target).float().mean().item()
