"""The modules of a Qwen3-VL, named as its checkpoints name them: weights, norms, MLPs, rotations.

Attention and the order of things are models/qwen3_vl/forward.py's. transformers has the same
modules (tests hold these to them bit by bit), but to import its models takes seconds of every
start. Not covered, so that transformers loads them: quantised weights, adapters, other activations
or rotations.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional

DEFAULT_THETA = 500_000.0  # of a checkpoint that names none, as in transformers
VISION_THETA = 10_000.0
VISION_NORM_EPS = 1e-6


def is_covered(config: dict[str, Any]) -> bool:
    """Tell whether these modules compute what a config.json describes."""
    text, vision = config["text_config"], config["vision_config"]
    rope = _rope(text)
    vision_rope = vision.get("rope_parameters") or {}
    return (
        text.get("hidden_act", "silu") == "silu"
        and vision.get("hidden_act", "gelu_pytorch_tanh") == "gelu_pytorch_tanh"
        and rope.get("rope_type", rope.get("type", "default")) in ("default", "mrope")
        and vision_rope.get("rope_type", "axial") == "axial"
        and "quantization_config" not in config
    )


class Qwen3VL(nn.Module):
    """The vision tower and the language model, without a head."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Build the modules that a config.json describes."""
        super().__init__()
        self.visual = VisionTower(config["vision_config"], config["text_config"]["hidden_size"])
        self.language_model = LanguageModel(config["text_config"])


class LanguageModel(nn.Module):
    """A decoder with grouped queries; rotations by time, row and column, interleaved."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        eps = config.get("rms_norm_eps", 1e-6)
        self.embed_tokens = _embedding(config["vocab_size"], width)
        self.layers = nn.ModuleList(
            DecoderLayer(config, eps) for _ in range(config["num_hidden_layers"])
        )
        self.norm = RMSNorm(width, eps)
        self.rotary_emb = TextRotation(config)


class DecoderLayer(nn.Module):
    """One layer of the language model."""

    def __init__(self, config: dict[str, Any], eps: float) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.self_attn = TextAttention(config, eps)
        self.mlp = GatedMLP(width, config["intermediate_size"])
        self.input_layernorm = RMSNorm(width, eps)
        self.post_attention_layernorm = RMSNorm(width, eps)


class TextAttention(nn.Module):
    """The weights of grouped-query attention with normed queries and keys."""

    def __init__(self, config: dict[str, Any], eps: float) -> None:
        super().__init__()
        width, heads = config["hidden_size"], config["num_attention_heads"]
        kv_heads = config.get("num_key_value_heads") or heads
        bias = config.get("attention_bias", False)
        self.head_dim = _head_dim(config)
        self.scaling = self.head_dim**-0.5
        self.q_proj = nn.Linear(width, heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(width, kv_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(width, kv_heads * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(heads * self.head_dim, width, bias=bias)
        self.q_norm = RMSNorm(self.head_dim, eps)
        self.k_norm = RMSNorm(self.head_dim, eps)


class GatedMLP(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[…, width] → [..., width]."""
        gated = functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden)
        down: torch.Tensor = self.down_proj(gated)
        return down


class RMSNorm(nn.Module):
    """Division by the root mean square, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.variance_epsilon = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[…, width] → [..., width], in the type that came."""
        wide = hidden.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * wide.to(hidden.dtype)


class TextRotation(nn.Module):
    """Angles of tokens at (time, row, column)."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        rope = _rope(config)
        theta = rope.get("rope_theta", config.get("rope_theta", DEFAULT_THETA))
        self.sections = rope.get("mrope_section", [24, 20, 20])
        self._theta, self._dim = theta, _head_dim(config)

    def forward(
        self, hidden: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """positions int64[3, B, tokens] → cos and sin [B, tokens, head_dim] in `hidden`'s type."""
        angles = positions[..., None].float() * _frequencies(self._theta, self._dim, hidden.device)
        cos, sin = self._interleaved(angles.cos()), self._interleaved(angles.sin())
        return cos.to(hidden.dtype), sin.to(hidden.dtype)

    def _interleaved(self, parts: torch.Tensor) -> torch.Tensor:
        mixed = parts[0].clone()
        for axis in (1, 2):
            places = slice(axis, self.sections[axis] * 3, 3)
            mixed[..., places] = parts[axis, ..., places]
        return torch.cat((mixed, mixed), dim=-1)


class VisionTower(nn.Module):
    """A vision transformer whose merged patches are visual tokens, with levels for deepstack."""

    def __init__(self, config: dict[str, Any], text_width: int) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.patch_size = config["patch_size"]
        self.spatial_merge_size = config["spatial_merge_size"]
        self.num_grid_per_side = int(config["num_position_embeddings"] ** 0.5)
        self.deepstack_visual_indexes = list(config["deepstack_visual_indexes"])
        self.patch_embed = PatchEmbedding(config)
        self.pos_embed = _embedding(config["num_position_embeddings"], width)
        self.rotary_pos_emb = VisionRotation(config)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config["depth"]))
        out = config.get("out_hidden_size", text_width)
        merge = self.spatial_merge_size**2
        self.merger = PatchMerger(width, merge, out)
        self.deepstack_merger_list = nn.ModuleList(
            PatchMerger(width, merge, out, norm_after=True) for _ in self.deepstack_visual_indexes
        )


class PatchEmbedding(nn.Module):
    """The weights of a convolution over patches, which the forward computes as a product."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        size = (config["temporal_patch_size"], config["patch_size"], config["patch_size"])
        self.proj = nn.Conv3d(
            config.get("in_channels", 3), config["hidden_size"], kernel_size=size, stride=size
        )


class VisionRotation(nn.Module):
    """Angles of patches at (row, column)."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        rope = config.get("rope_parameters") or {}
        self._theta = rope.get("rope_theta", config.get("rope_theta", VISION_THETA))
        self._dim = config["hidden_size"] // config["num_heads"] // 2

    def forward(
        self, hidden: torch.Tensor, coordinates: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """coordinates int64[patches, 2] → cos and sin float32[patches, head_dim]."""
        frequencies = _frequencies(self._theta, self._dim, hidden.device)
        angles = (coordinates[..., None].float() * frequencies).flatten(1)
        return angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)


class VisionBlock(nn.Module):
    """One layer of the vision tower."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.norm1 = nn.LayerNorm(width, eps=VISION_NORM_EPS)
        self.norm2 = nn.LayerNorm(width, eps=VISION_NORM_EPS)
        self.attn = VisionAttention(width, config["num_heads"])
        self.mlp = VisionMLP(width, config["intermediate_size"])


class VisionAttention(nn.Module):
    """The weights of attention among the patches of an image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.scaling = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)


class VisionMLP(nn.Module):
    """Two layers with GELU (tanh) between."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.linear_fc1 = nn.Linear(width, inner)
        self.linear_fc2 = nn.Linear(inner, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[patches, width] → [patches, width]."""
        inner = functional.gelu(self.linear_fc1(hidden), approximate="tanh")
        out: torch.Tensor = self.linear_fc2(inner)
        return out


class PatchMerger(nn.Module):
    """`merge` neighbouring patches become one visual token of the language model's width."""

    def __init__(self, width: int, merge: int, out: int, *, norm_after: bool = False) -> None:
        super().__init__()
        self.inner = width * merge
        self.norm_after = norm_after
        self.norm = nn.LayerNorm(self.inner if norm_after else width, eps=VISION_NORM_EPS)
        self.linear_fc1 = nn.Linear(self.inner, self.inner)
        self.linear_fc2 = nn.Linear(self.inner, out)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[patches, width] → [visual tokens, out]."""
        if self.norm_after:
            merged = self.norm(hidden.view(-1, self.inner))
        else:
            merged = self.norm(hidden).view(-1, self.inner)
        out: torch.Tensor = self.linear_fc2(functional.gelu(self.linear_fc1(merged)))
        return out


def load_modules(
    config: dict[str, Any], files: list[Path], *, dtype: torch.dtype, device: str
) -> tuple[Qwen3VL, int]:
    """Return a model with its weights on a device, and the number of tensors that it lacks.

    One tensor at a time is read, so nothing but the model is in memory.
    """
    with torch.device("meta"):
        model = Qwen3VL(config)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        with safe_open(file, "pt", device=device) as tensors:
            for stored in tensors.keys():  # noqa: SIM118 — no mapping
                name = stored.removeprefix("model.")
                shape = torch.Size(tensors.get_slice(stored).get_shape())
                if shapes.get(name) == shape:
                    weights[name] = tensors.get_tensor(stored).to(dtype)
    if len(weights) == len(shapes):
        model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False), len(shapes) - len(weights)


def _embedding(rows: int, width: int) -> nn.Embedding:
    """Return a table without its random start, which imports torch's compilers on meta devices."""
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))


def _frequencies(theta: float, dim: int, device: torch.device) -> torch.Tensor:
    """float32[dim / 2] of a rotary embedding."""
    steps = torch.arange(0, dim, 2, dtype=torch.float) / dim
    return (1.0 / (theta**steps)).to(device)


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of rotations; older checkpoints call them rope_scaling."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _head_dim(config: dict[str, Any]) -> int:
    return int(config.get("head_dim") or 128)
