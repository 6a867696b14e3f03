"""Models by name. A new model is one entry; a local folder needs none."""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cluster.capacity.shapes import (
    COLPALI,
    COLQWEN2,
    QWEN3_VL_2B,
    QWEN3_VL_8B,
    ModelShape,
    shape_of,
)
from cluster.errors import ModelUnavailable
from models.images import FACTOR_PX

Kind = Literal["embedder", "reranker", "late-interaction"]

TINY_FOLDER = Path(__file__).parent / "checkpoints" / "quire-tiny"
TINY_RERANKER_FOLDER = Path(__file__).parent / "checkpoints" / "quire-tiny-reranker"
TINY_COLQWEN3_FOLDER = Path(__file__).parent / "checkpoints" / "quire-tiny-colqwen3"
VISUAL_TOKEN_PX = FACTOR_PX * FACTOR_PX
# 1024 visual tokens reach 52.3 of the 52.9 nDCG that 2000 reach on VisDoc (the authors' ablation),
# for half of the arithmetic.
MAX_PIXELS = 1024 * VISUAL_TOKEN_PX
SAMPLE_BYTES = 2**20
# What a checkpoint of each kind is, by the model_type of its config.json.
MODEL_TYPES: dict[Kind, tuple[str, ...]] = {
    "embedder": ("qwen3_vl",),
    "reranker": ("qwen3_vl",),
    "late-interaction": ("paligemma", "qwen2_vl", "qwen3_vl"),
}


LATE_PROMPT_TOKENS = 32  # around the image


@dataclass(frozen=True)
class ModelSpec:
    """Where a checkpoint is and what it expects.

    `page_chars`: characters of page text given beside the page image (0: image alone).
    `page_images`: "if asked by image" leaves page images out where the query has none.
    `needs_words`: a reranker that does not help where the query is an image alone.
    `dense_weight`: what a ranking by its vectors weighs beside full text, for a query of words.
    `max_tokens`: the longest input. Pixel budgets are in px; one visual token covers 32 × 32.
    `base`, `base_revision`: the checkpoint that an adapter (LoRA) goes on, where it is one.
    """

    name: str
    checkpoint: str
    revision: str
    dimension: int
    shape: ModelShape
    max_pixels: int
    kind: Kind = "embedder"
    max_tokens: int = 8192
    min_pixels: int = 4 * VISUAL_TOKEN_PX
    page_chars: int = 0
    page_images: Literal["always", "if asked by image"] = "always"
    needs_words: bool = False
    dense_weight: float = 0.5
    base: str = ""
    base_revision: str = ""
    note: str = ""

    @property
    def is_local(self) -> bool:
        """In a folder of this machine, not on a hub."""
        return Path(self.checkpoint).is_absolute()

    @property
    def page_input(self) -> str:
        """Name what a page's vector is made of, for the fingerprint."""
        return f"image+text{self.page_chars}" if self.page_chars else "image"


class Registry:
    """The models Quire knows by name."""

    @cached_property
    def specs(self) -> dict[str, ModelSpec]:
        known = [
            ModelSpec(
                name="qwen3-vl-embedding-2b",
                checkpoint="Qwen/Qwen3-VL-Embedding-2B",
                revision="9f2f7e710d6d81056aa5c0a4f04764fec6bb7bda",
                dimension=2048,
                shape=QWEN3_VL_2B,
                max_pixels=MAX_PIXELS,
                note="the default on a GPU",
            ),
            ModelSpec(
                name="qwen3-vl-embedding-8b",
                checkpoint="Qwen/Qwen3-VL-Embedding-8B",
                revision="2c4565515e0f265c6511776e7193b22c0968ddc7",
                dimension=4096,
                shape=QWEN3_VL_8B,
                max_pixels=MAX_PIXELS,
                note="best quality, three times the arithmetic",
            ),
            replace(
                local_spec(TINY_FOLDER),
                name="quire-tiny",
                page_chars=2400,
                # Measured (benchmarks/retrieval.py): for words that stand on the page, full text
                # leads; these vectors order what it leaves equal and find what it misses.
                dense_weight=0.02,
                note="ships with Quire; for a laptop CPU",
            ),
            ModelSpec(
                name="qwen3-vl-reranker-2b",
                kind="reranker",
                checkpoint="Qwen/Qwen3-VL-Reranker-2B",
                revision="4bd860ac4f15ad1897a214615cccc700f8f71818",
                dimension=2048,
                shape=QWEN3_VL_2B,
                max_pixels=MAX_PIXELS,
                max_tokens=10_240,
                note="reranks what the 2B found",
            ),
            ModelSpec(
                name="qwen3-vl-reranker-8b",
                kind="reranker",
                checkpoint="Qwen/Qwen3-VL-Reranker-8B",
                revision="b212dc8c91a8164aef1ea2de9c1a867611e75c04",
                dimension=4096,
                shape=QWEN3_VL_8B,
                max_pixels=MAX_PIXELS,
                max_tokens=10_240,
                note="best quality",
            ),
            replace(
                local_spec(TINY_RERANKER_FOLDER),
                name="quire-tiny-reranker",
                kind="reranker",
                page_chars=2400,
                page_images="if asked by image",
                needs_words=True,  # measured: benchmarks/retrieval.py
                note="ships with Quire; for a laptop CPU",
            ),
            ModelSpec(
                name="colpali-v1.3",
                kind="late-interaction",
                checkpoint="vidore/colpali-v1.3",
                revision="1b5c8929330df1a66de441a9b5409a878f0de5b0",
                base="vidore/colpaligemma-3b-pt-448-base",
                base_revision="12c59eb7e23bc4c26876f7be7c17760d5d3a1ffa",
                dimension=128,
                shape=COLPALI,
                max_pixels=448 * 448,
                max_tokens=1024 + LATE_PROMPT_TOKENS,
                note="1,024 vectors a page at 448 × 448 px",
            ),
            ModelSpec(
                name="colqwen2-v1.0",
                kind="late-interaction",
                checkpoint="vidore/colqwen2-v1.0-merged",
                revision="2c9a09bb37ed19b63eb94ae6c29bb4e76eb6e3c2",
                dimension=128,
                shape=COLQWEN2,
                max_pixels=768 * 28 * 28,
                max_tokens=768 + LATE_PROMPT_TOKENS,
                note="up to 768 vectors a page, of its own shape",
            ),
            replace(
                local_spec(TINY_COLQWEN3_FOLDER, "late-interaction"),
                name="quire-tiny-colqwen3",
                note="ships with Quire; for a laptop CPU",
            ),
        ]
        return {spec.name: spec for spec in known}

    def find_spec(self, model: str, kind: Kind = "embedder") -> ModelSpec:
        """Return the spec of a known name or of a local folder. Raises ModelUnavailable."""
        of_kind = {name: spec for name, spec in self.specs.items() if spec.kind == kind}
        if model in of_kind:
            return of_kind[model]
        if Path(model).is_dir():
            return local_spec(Path(model).resolve(), kind)
        raise ModelUnavailable(
            f"no {kind} is called {model!r}: choose one of {', '.join(of_kind)}, or name a "
            f"folder that holds a checkpoint of the type {' or '.join(MODEL_TYPES[kind])}"
        )


registry = Registry()


def local_spec(folder: Path, kind: Kind = "embedder") -> ModelSpec:
    """The spec of a checkpoint in a folder, read from its own files. Raises ModelUnavailable."""
    config = _read_json(folder / "config.json")
    if config.get("model_type") not in MODEL_TYPES[kind]:
        raise ModelUnavailable(
            f"{folder} holds a {config.get('model_type')!r} model; a checkpoint for this is "
            f"{' or '.join(MODEL_TYPES[kind])}"
        )
    projection = _projection(folder) if kind == "late-interaction" else 0
    spec = ModelSpec(
        name=folder.name,  # its content is the revision, so it may be moved
        kind=kind,
        checkpoint=str(folder),
        revision=content_revision(folder),
        dimension=config["text_config"]["hidden_size"],
        shape=shape_of(config, projection),
        max_pixels=min(_pixel_budget(folder), MAX_PIXELS),
        note="a local folder",
    )
    if kind != "late-interaction":
        return spec
    cells = spec.max_pixels // spec.shape.vision.token_px**2
    return replace(spec, dimension=projection, max_tokens=cells + LATE_PROMPT_TOKENS)


def _projection(folder: Path) -> int:
    """Dimensions of the vectors of a late-interaction checkpoint. Raises ModelUnavailable."""
    for file in sorted(folder.glob("*.safetensors")):
        for tensor, shape in _tensor_shapes(file).items():
            if tensor.endswith("custom_text_proj.weight"):
                return shape[0]
    raise ModelUnavailable(f"{folder} has no custom_text_proj: it gives no multi-vectors")


def _pixel_budget(folder: Path) -> int:
    """The pixel budget, or the fixed size, that the checkpoint's image processor declares."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            declared = _read_json(folder / name)
            size = declared.get("image_processor", declared).get("size", {})
            if "height" in size:
                return int(size["height"] * size["width"])
            return int(size.get("longest_edge", MAX_PIXELS))
    return MAX_PIXELS


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{file} cannot be read: it is not a checkpoint ({error})"
        ) from error
    return content


def content_revision(folder: Path) -> str:
    """Return a revision for a folder without one: a hash of its files (of large ones both ends)."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix not in {".json", ".jinja", ".safetensors", ".txt"}:
            continue
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(SAMPLE_BYTES))
            stream.seek(max(SAMPLE_BYTES, size - SAMPLE_BYTES))
            digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()[:40]


def _tensor_shapes(file: Path) -> dict[str, list[int]]:
    """Names and shapes in a safetensors file: 8 bytes of length, then a JSON header."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > file.stat().st_size:
            raise ModelUnavailable(f"{file} is not a safetensors file: fetch it again")
        header = json.loads(stream.read(length))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
