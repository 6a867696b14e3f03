"""ColPali, ColQwen2 and ColQwen3: a page becomes many vectors, each with its place on the page.

The models are colpali-engine's. Not covered: training, and queries longer than the model's input.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import conversion_mapping

from cluster.capacity.shapes import Precision
from cluster.errors import InvalidInput, ModelUnavailable
from cluster.pages.vectors import WHOLE_PAGE, PageVectors, Tile
from models.engine.budget import TokenBudget
from models.engine.device import to_device
from models.engine.loading import check_files, checkpoint_folder, load_weights
from models.engine.pending import Pending
from models.inputs import Picture, to_image
from models.options import LateInteractionOptions
from models.qwen3_vl.prompts import neutralizer
from models.registry import registry

MAX_QUERY_CHARS = 2000  # of a question's words; what is beyond is not looked at
MIN_RATIO = 0.0055  # of a picture's sides: the processors refuse 1 : 200
QUARTERS = ((0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5), (0.0, 0.5, 0.5, 1.0), (0.5, 0.5, 1.0, 1.0))
QWEN3 = "qwen3_vl"
ADAPTER_FILE = "adapter_config.json"


@dataclass(frozen=True)
class _Family:
    """The classes of one architecture, and the tensors that it may lack: its unused head."""

    model: type[Any]
    processor: type[Any]
    may_lack: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Rows:
    """Vectors float32[n, d] of each input, and the states before them, float32[n, h] or None."""

    vectors: Sequence[np.ndarray]
    states: Sequence[np.ndarray | None]


class ColPaliModel:
    """One late-interaction checkpoint.

    Safe to call from several threads: forwards come one after the other, pictures are prepared
    meanwhile.
    """

    def __init__(self, options: LateInteractionOptions) -> None:
        """Load the checkpoint. Raises ModelUnavailable."""
        self.spec = registry.find_spec(options.model, "late-interaction")
        self.budget = TokenBudget(self.spec.name, options.batch_tokens)
        device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        folder = checkpoint_folder(self.spec.checkpoint, self.spec.revision)
        base = folder
        if self.spec.base:
            base = checkpoint_folder(self.spec.base, self.spec.base_revision)
        check_files(base, chat=False)
        family = _family(base)
        # CPUs without matrix units compute bf16 slower than fp32.
        dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
        self.precision: Precision = "fp32" if dtype is torch.float32 else "bf16"
        with _on_base(folder, base) as whole:
            self._model = load_weights(
                family.model, whole, dtype=dtype, device=device, may_lack=family.may_lack
            ).eval()
        self._processor = family.processor.from_pretrained(base, local_files_only=True)
        size = self._processor.image_processor.size
        if "longest_edge" in size:  # a resolution of its own choice; ColPali's is fixed
            size["longest_edge"] = self.spec.max_pixels
        self._neutral = neutralizer(self._processor.tokenizer)
        self._device = device
        self._turn = Lock()
        self._hidden: list[torch.Tensor] = []
        self._model.custom_text_proj.register_forward_pre_hook(self._remember)

    def embed_images(
        self, images: Sequence[Picture], *, hidden: bool = False, tiles: int = 1
    ) -> list[PageVectors]:
        """Return the multi-vectors of pages: image tokens only, each with its cell of the grid.

        `tiles` 4 adds the page's quarters, each at the model's full resolution, for small print.
        `hidden` keeps the states before the projection. Raises InvalidInput or OutOfMemory.
        """
        if tiles not in (1, 4):
            raise InvalidInput(f"tiles is 1 (the whole page) or 4 (and its quarters), not {tiles}")
        pages = [to_image(image).convert("RGB") for image in images]
        parts = [part for page in pages for part in _parts(page, tiles)]
        tokens = [self.spec.max_tokens] * len(parts)
        embedded = self.budget.map(partial(self._embed_parts, hidden=hidden), parts, tokens)
        count = 1 if tiles == 1 else 1 + len(QUARTERS)
        return [
            _joined(embedded[start : start + count]) for start in range(0, len(embedded), count)
        ]

    def embed_query(self, text: str = "", image: Picture | None = None) -> np.ndarray:
        """Return the vectors of a question, float32[T, d]: of its words, of its image, or of both.

        Raises InvalidInput or OutOfMemory.
        """
        if not text.strip() and image is None:
            raise InvalidInput("give a text, an image, or both to search for")
        parts = [] if image is None else [self.embed_images([image])[0].vectors]
        if text.strip():
            encoded = self._processor.process_queries([self._plain(text)])
            real = encoded["attention_mask"].bool()
            rows = self.budget.whole(partial(self._forward, encoded, real, hidden=False))
            parts.insert(0, rows.vectors[0])
        return np.concatenate(parts)

    def query_tokens(self, text: str) -> list[str]:
        """The tokens of a text, one for each vector of `embed_query(text)`; "" for special ones."""
        encoded = self._processor.process_queries([self._plain(text)])
        ids = encoded["input_ids"][0][encoded["attention_mask"][0].bool()].tolist()
        tokenizer = self._processor.tokenizer
        return [tokenizer.decode([token], skip_special_tokens=True).strip() for token in ids]

    def _plain(self, text: str) -> str:
        """Words in which no special token of the checkpoint stands, at most so many."""
        return self._neutral(text)[:MAX_QUERY_CHARS]

    def _embed_parts(self, parts: Sequence[Image.Image], *, hidden: bool) -> list[PageVectors]:
        encoded = self._processor.process_images(list(parts))
        is_image = self._processor.get_image_mask(encoded)
        tiles = [self._tile(encoded, row) for row in range(len(parts))]
        for tile, count in zip(tiles, is_image.sum(dim=1).tolist(), strict=True):
            if tile.cells != count:
                raise ModelUnavailable(
                    f"{self.spec.name} gives {count} vectors for a grid of {tile.rows} × "
                    f"{tile.columns}: its processor does not fit its model"
                )
        rows = self._forward(encoded, is_image, hidden=hidden)
        return [
            PageVectors(vectors, (tile,), states)
            for vectors, tile, states in zip(rows.vectors, tiles, rows.states, strict=True)
        ]

    def _tile(self, encoded: Any, row: int) -> Tile:
        if "image_grid_thw" in encoded:
            merge = self._processor.image_processor.merge_size
            _, rows, columns = encoded["image_grid_thw"][row].tolist()
            return Tile(rows // merge, columns // merge)
        patch = self._model.model.model.vision_tower.config.patch_size
        size = self._processor.image_processor.size
        return Tile(size["height"] // patch, size["width"] // patch)

    @torch.inference_mode()
    def _forward(self, encoded: Any, wanted: torch.Tensor, *, hidden: bool) -> _Rows:
        """Compute inputs; only what is `wanted`, bool[B, L], leaves the device."""
        encoded.pop("labels", None)  # ColPali's processor makes them for training
        counts = wanted.sum(dim=1).tolist()
        rows = wanted.flatten().nonzero().squeeze(1)  # on the host: a mask would wait for the GPU
        with self._turn:
            self._hidden.clear()  # of a forward that ran out of memory
            inputs = {name: to_device(value, self._device) for name, value in encoded.items()}
            kept = to_device(rows, self._device)
            found = self._model(**inputs).flatten(0, 1)[kept]
            # Once more, in float32: in bf16 a length is off by up to 0.4 %.
            unit = torch.nn.functional.normalize(found.float(), dim=-1)
            vectors = Pending(unit.split(counts))
            before = self._hidden.pop().flatten(0, 1)
            states = Pending(before[kept].float().split(counts)) if hidden else None
        return _Rows(vectors.wait(), states.wait() if states else [None] * len(counts))

    def _remember(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._hidden.append(inputs[0])


def _family(folder: Path) -> _Family:
    """Return the architecture of a checkpoint, by its config. Raises ModelUnavailable."""
    from colpali_engine import models as engine

    forget_engines_renaming()
    families = {
        "paligemma": _Family(
            engine.ColPali, engine.ColPaliProcessor, may_lack=("model.lm_head.weight",)
        ),
        "qwen2_vl": _Family(engine.ColQwen2, engine.ColQwen2Processor),
        QWEN3: _Family(engine.ColQwen3, engine.ColQwen3Processor),
    }
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    if kind not in families:
        raise ModelUnavailable(f"{folder} holds a {kind!r} model: choose {', '.join(families)}")
    return families[kind]


def forget_engines_renaming() -> None:
    """Undo what the engine does to transformers when it is imported.

    It registers the names of ColQwen3's weights for every Qwen3-VL model of the process: embedders
    and rerankers that are loaded or saved later would lose theirs. ColQwen3 brings its own along.
    """
    if QWEN3 in conversion_mapping.USER_REGISTERED_MAPPINGS:
        conversion_mapping.register_checkpoint_conversion_mapping(QWEN3, [], overwrite=True)


@contextmanager
def _on_base(adapter: Path, base: Path) -> Iterator[Path]:
    """A folder that loads as one: an adapter names its base by a hub's name, without a revision.

    A copy of its settings names the folder of the pinned base instead.
    """
    if adapter == base:
        yield base
        return
    with tempfile.TemporaryDirectory(prefix="quire-") as name:
        folder = Path(name)
        for file in adapter.iterdir():
            if file.suffix in {".safetensors", ".json"} and file.name != ADAPTER_FILE:
                (folder / file.name).symlink_to(file.resolve())
        config = json.loads((adapter / ADAPTER_FILE).read_text())
        config |= {"base_model_name_or_path": str(base), "revision": None}
        (folder / ADAPTER_FILE).write_text(json.dumps(config))
        yield folder


def _wide_enough(picture: Image.Image) -> Image.Image:
    """Return a picture on white paper, where it is too narrow for the processors."""
    least = math.ceil(max(picture.size) * MIN_RATIO)
    if min(picture.size) >= least:
        return picture
    paper = Image.new("RGB", (max(picture.width, least), max(picture.height, least)), "white")
    paper.paste(picture)
    return paper


def _parts(page: Image.Image, tiles: int) -> list[Image.Image]:
    """Return the whole page, and its quarters where they are wanted."""
    page = _wide_enough(page)
    if tiles == 1:
        return [page]
    width, height = page.size
    if min(width, height) < 2:
        raise InvalidInput(f"a picture of {width} × {height} px has no quarters: use tiles 1")
    corners = [
        (int(left * width), int(top * height), int(right * width), int(bottom * height))
        for left, top, right, bottom in QUARTERS
    ]
    return [page, *(_wide_enough(page.crop(corner)) for corner in corners)]


def _joined(parts: Sequence[PageVectors]) -> PageVectors:
    """Return the tiles of one page, one after the other."""
    boxes = (WHOLE_PAGE, *QUARTERS)
    tiles = tuple(replace(part.tiles[0], box=box) for part, box in zip(parts, boxes, strict=False))
    hidden = [part.hidden for part in parts if part.hidden is not None]
    return PageVectors(
        np.concatenate([part.vectors for part in parts]),
        tiles,
        np.concatenate(hidden) if hidden else None,
    )
