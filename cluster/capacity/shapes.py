"""The shape of a model: its dimensions, and the exact number of parameters that follow.

Pure arithmetic on a configuration; tests hold it against the models that transformers builds.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from cluster.errors import ModelUnavailable

Precision = Literal["fp32", "bf16", "int8", "nf4"]
Family = Literal["qwen3_vl", "qwen2_vl", "paligemma"]
RGB = 3


@dataclass(frozen=True)
class Parameters:
    """Parameter counts by how a precision treats them; `linear` is the language model's layers."""

    vision: int
    linear: int
    embedding: int

    @property
    def total(self) -> int:
        return self.vision + self.linear + self.embedding


@dataclass(frozen=True)
class Vision:
    """A vision transformer: `patch_px` square, `frames` temporal slices, `merge`² patches a token.

    `levels`: mergers beside the last one (deepstack). `positions`: rows of the position table.
    """

    depth: int
    width: int
    mlp: int
    heads: int
    patch_px: int
    merge: int
    frames: int
    levels: int = 0
    positions: int = 0

    @property
    def token_px(self) -> int:
        """Side of the square that one visual token covers."""
        return self.patch_px * self.merge


@dataclass(frozen=True)
class Text:
    """A decoder with grouped queries and a gated MLP; `tied`: its head is its embedding."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int
    tied: bool = True


@dataclass(frozen=True)
class Matrices:
    """So many matrices of one size."""

    count: int
    rows: int
    columns: int

    @property
    def weights(self) -> int:
        """Count the weights of all layers."""
        return self.count * self.rows * self.columns


@dataclass(frozen=True)
class ModelShape:
    """Dimensions of a vision-language model; `projection`: width of its multi-vectors, or 0."""

    family: Family
    vision: Vision
    text: Text
    projection: int = 0

    @property
    def size(self) -> str:
        """Name the dimensions: models with the same name do the same arithmetic."""
        vision, text = self.vision, self.text
        towers = f"{vision.depth}x{vision.width}+{text.layers}x{text.width}"
        return f"{self.family} {towers}" + (f"+{self.projection}" if self.projection else "")

    @cached_property
    def parameters(self) -> Parameters:
        """Without a language model's head, which only a generator loads."""
        return Parameters(
            self._vision_parameters(),
            self.linear_weights + self._language_extras() + self._projection_parameters(),
            self.text.vocabulary * self.text.width,
        )

    @cached_property
    def linear_layers(self) -> list[Matrices]:
        """Return every matrix of the language model's layers: what is quantised."""
        text = self.text
        asked, held = text.heads * text.head_dim, text.kv_heads * text.head_dim
        return [
            Matrices(text.layers, asked, text.width),
            Matrices(2 * text.layers, held, text.width),
            Matrices(text.layers, text.width, asked),
            Matrices(2 * text.layers, text.mlp, text.width),
            Matrices(text.layers, text.width, text.mlp),
        ]

    @cached_property
    def linear_weights(self) -> int:
        return sum(each.weights for each in self.linear_layers)

    @property
    def vision_matrices(self) -> list[Matrices]:
        """Return every matrix of the vision tower: its blocks' and its mergers'."""
        vision = self.vision
        wide, inner = vision.width, vision.width * vision.merge**2
        mergers = 1 + vision.levels
        return [
            Matrices(vision.depth, 3 * wide, wide),
            Matrices(vision.depth, wide, wide),
            Matrices(vision.depth, vision.mlp, wide),
            Matrices(vision.depth, wide, vision.mlp),
            Matrices(mergers, inner, inner),
            Matrices(mergers, self.text.width, inner),
        ]

    @property
    def block_matrices(self) -> int:
        """Parameters in the matrices of all blocks of the vision tower."""
        vision = self.vision
        return vision.depth * (4 * vision.width**2 + 2 * vision.width * vision.mlp)

    @property
    def head_parameters(self) -> int:
        """Count the parameters of the language model's head that its embedding does not hold."""
        return 0 if self.text.tied else self.text.vocabulary * self.text.width

    @property
    def patch_values(self) -> int:
        """Values of one patch: colours × slices × pixels."""
        return RGB * self.vision.frames * self.vision.patch_px**2

    def _language_extras(self) -> int:
        """Norms and biases."""
        text = self.text
        layer = 2 * text.width  # two norms
        if self.family == "qwen3_vl":
            layer += 2 * text.head_dim  # norms of queries and keys
        if self.family == "qwen2_vl":
            layer += (text.heads + 2 * text.kv_heads) * text.head_dim  # biases of q, k and v
        return layer * text.layers + text.width

    def _projection_parameters(self) -> int:
        text, vision = self.text, self.vision
        count = (text.width + 1) * self.projection
        if self.family == "paligemma":
            count += (vision.width + 1) * text.width  # from the vision tower to the decoder
        return count

    def _vision_parameters(self) -> int:
        vision = self.vision
        wide = vision.width
        # Matrices' biases and two norms with biases.
        blocks = self.block_matrices + vision.depth * (9 * wide + vision.mlp)
        count = blocks + self.patch_values * wide + vision.positions * wide
        if self.family != "qwen2_vl":
            count += wide  # bias of the patch embedding
        if self.family == "paligemma":
            return count + 2 * wide  # norm behind the blocks
        inner = wide * vision.merge**2
        merger = inner**2 + inner + inner * self.text.width + self.text.width
        # The last merger's norm is before, a deepstack merger's is behind putting patches together.
        return count + merger + 2 * wide + vision.levels * (merger + 2 * inner)


QWEN3_VL_2B = ModelShape(
    "qwen3_vl",
    Vision(24, 1024, 4096, 16, patch_px=16, merge=2, frames=2, levels=3, positions=2304),
    Text(2048, 28, 16, 8, 128, 6144, 151_936),
)
QWEN3_VL_8B = ModelShape(
    "qwen3_vl",
    Vision(27, 1152, 4304, 16, patch_px=16, merge=2, frames=2, levels=3, positions=2304),
    Text(4096, 36, 32, 8, 128, 12_288, 151_936, tied=False),
)
# SigLIP So400m at 448 × 448 px and Gemma 2B.
COLPALI = ModelShape(
    "paligemma",
    Vision(27, 1152, 4304, 16, patch_px=14, merge=1, frames=1, positions=1024),
    Text(2048, 18, 8, 1, 256, 16_384, 257_216),
    projection=128,
)
COLQWEN2 = ModelShape(
    "qwen2_vl",
    Vision(32, 1280, 5120, 16, patch_px=14, merge=2, frames=2),
    Text(1536, 28, 12, 2, 128, 8960, 151_936),
    projection=128,
)


def shape_of(config: dict[str, Any], projection: int = 0) -> ModelShape:
    """Return the shape that a checkpoint's config.json describes. Raises ModelUnavailable."""
    readers = {
        "qwen3_vl": _qwen3_vl_vision,
        "qwen2_vl": _qwen2_vl_vision,
        "paligemma": _paligemma_vision,
    }
    family = config.get("model_type")
    if family not in readers:
        raise ModelUnavailable(f"there are no {family!r} models here: choose {', '.join(readers)}")
    try:
        vision = readers[family](config["vision_config"])
        tied = config.get("tie_word_embeddings", config["text_config"].get("tie_word_embeddings"))
        text = replace(_text(config["text_config"], family), tied=bool(tied))
        return ModelShape(family, vision, text, projection)
    except KeyError as error:
        raise ModelUnavailable(f"the checkpoint's config.json lacks {error}") from error


def _qwen3_vl_vision(config: dict[str, Any]) -> Vision:
    return Vision(
        depth=config["depth"],
        width=config["hidden_size"],
        mlp=config["intermediate_size"],
        heads=config["num_heads"],
        patch_px=config["patch_size"],
        merge=config["spatial_merge_size"],
        frames=config["temporal_patch_size"],
        levels=len(config["deepstack_visual_indexes"]),
        positions=config["num_position_embeddings"],
    )


def _qwen2_vl_vision(config: dict[str, Any]) -> Vision:
    return Vision(
        depth=config["depth"],
        width=config["embed_dim"],
        mlp=int(config["embed_dim"] * config.get("mlp_ratio", 4)),
        heads=config["num_heads"],
        patch_px=config.get("patch_size", 14),
        merge=config.get("spatial_merge_size", 2),
        frames=config.get("temporal_patch_size", 2),
    )


def _paligemma_vision(config: dict[str, Any]) -> Vision:
    return Vision(
        depth=config["num_hidden_layers"],
        width=config["hidden_size"],
        mlp=config["intermediate_size"],
        heads=config["num_attention_heads"],
        patch_px=config["patch_size"],
        merge=1,
        frames=1,
        positions=(config.get("image_size", 224) // config["patch_size"]) ** 2,
    )


def _text(config: dict[str, Any], family: Family) -> Text:
    width, heads = config["hidden_size"], config["num_attention_heads"]
    # What checkpoints leave out is what their class assumes.
    assumed = 256 if family == "paligemma" else width // heads
    return Text(
        width=width,
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config["num_key_value_heads"],
        head_dim=config.get("head_dim") or assumed,
        mlp=config["intermediate_size"],
        vocabulary=config["vocab_size"],
    )
