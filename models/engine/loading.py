"""Checkpoints into memory: files checked first, revision pinned, safetensors only, no code."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from safetensors import SafetensorError, safe_open

from cluster.capacity.shapes import Precision
from cluster.errors import ModelUnavailable, OutOfMemory
from models.engine.budget import refusal_of
from models.engine.modules import Qwen3VL, is_covered, load_modules
from models.engine.processor import Processor
from models.registry import ModelSpec

if TYPE_CHECKING:  # its import takes seconds, and most checkpoints are loaded without it
    from transformers import BitsAndBytesConfig, Qwen3VLModel

NF4_BLOCK = 64
ADAPTER_FILE = "adapter_config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CHECKPOINT_FILES = ("*.json", "*.jinja", "*.txt", "*.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model with its processor."""

    folder: Path
    model: "Qwen3VL | Qwen3VLModel"
    processor: Processor
    precision: Precision


def load_checkpoint(
    spec: ModelSpec,
    precision: Literal["auto"] | Precision = "auto",
    *,
    device: str = "",
    quantize_vision: bool = False,
) -> Checkpoint:
    """Load a checkpoint for inference; `device` "" takes the GPU where there is one.

    Raises ModelUnavailable where files are missing or of a kind that is never loaded.
    """
    target = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        precision = "bf16" if target.startswith("cuda") else "fp32"
    folder = checkpoint_folder(spec.checkpoint, spec.revision)
    check_files(folder)
    processor = Processor(folder)
    if precision in ("int8", "nf4"):
        model = _load_quantized(folder, precision, target, quantize_vision)
        return Checkpoint(folder, model, processor, precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    config = json.loads((folder / "config.json").read_text())
    if is_covered(config) and not (folder / ADAPTER_FILE).is_file():
        return Checkpoint(folder, _load_wide(folder, config, dtype, target), processor, precision)
    from transformers import Qwen3VLModel

    model = load_weights(Qwen3VLModel, folder, dtype=dtype, device=target)
    return Checkpoint(folder, model, processor, precision)


def load_weights(
    kind: Any,
    folder: Path,
    *,
    dtype: torch.dtype,
    device: str,
    quantization: "BitsAndBytesConfig | None" = None,
    may_lack: tuple[str, ...] = (),
) -> Any:
    """Return a model of a transformers class `kind`; `may_lack` are tensors that it does without.

    Raises ModelUnavailable or OutOfMemory.
    """
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bar()  # it would tear the progress display of the job that loads us
    set_verbosity_error()  # it lists the weights that we leave out on purpose
    with _readable(folder):
        model, found = kind.from_pretrained(
            folder,
            output_loading_info=True,
            dtype=dtype,
            device_map={"": device},
            use_safetensors=True,
            local_files_only=True,
            quantization_config=quantization,
        )
    missing = [name for name in found["missing_keys"] if name not in may_lack]
    # transformers would go on with random weights in their place.
    _check_complete(folder, len([*missing, *found["mismatched_keys"]]))
    return model


def output_rows(checkpoint: Checkpoint, token_ids: Sequence[int]) -> torch.Tensor:
    """Return the rows of the language model's head that score these tokens, float32[tokens, d].

    Only these are read: a whole head is never in memory. Raises ModelUnavailable.
    """
    for file in sorted(checkpoint.folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            if "lm_head.weight" in tensors.keys():  # noqa: SIM118 — no mapping
                head = tensors.get_slice("lm_head.weight")
                return torch.cat([head[row : row + 1] for row in token_ids]).float()
    config = json.loads((checkpoint.folder / "config.json").read_text())
    if not config.get("tie_word_embeddings", config["text_config"].get("tie_word_embeddings")):
        raise ModelUnavailable(f"the checkpoint in {checkpoint.folder} has no lm_head")
    embedding = cast(Any, checkpoint.model.language_model).embed_tokens.weight
    return cast(torch.Tensor, embedding.detach()[list(token_ids)].float().cpu())


def checkpoint_folder(checkpoint: str, revision: str) -> Path:
    """Return the folder of a checkpoint, fetched from the hub at its pinned revision where needed.

    Raises ModelUnavailable.
    """
    folder = Path(checkpoint)
    if folder.is_absolute():
        return folder
    return _fetch(checkpoint, revision)  # a name on the hub, even where a folder is called like it


def check_files(folder: Path, *, chat: bool = True) -> None:
    """Refuse an incomplete checkpoint before transformers guesses what is missing.

    A missing config.json would build the full default model, a missing tokenizer.json an empty
    tokenizer, both without a word. `chat`: its prompts come from a template. Raises
    ModelUnavailable.
    """
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    templates = ("chat_template.jinja", "chat_template.json")
    if chat and not any((folder / name).is_file() for name in templates):
        missing.append("chat_template.jinja")
    processors = ("processor_config.json", "preprocessor_config.json")
    if not any((folder / name).is_file() for name in processors):
        missing.append("processor_config.json")
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors (weights in any other format are never loaded)")
    if missing:
        raise ModelUnavailable(f"the checkpoint in {folder} lacks {', '.join(missing)}")


def _fetch(checkpoint: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(checkpoint, revision=revision, allow_patterns=list(CHECKPOINT_FILES))
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelUnavailable(
            f"{checkpoint} at {revision[:12]} is not on this machine and could not be "
            f"fetched ({type(error).__name__}): connect to the hub once, or put the checkpoint in "
            "a folder and name that as the model"
        ) from error


def _load_wide(folder: Path, config: Any, dtype: torch.dtype, device: str) -> Qwen3VL:
    """Load fp32 or bf16 into modules of our own. Raises ModelUnavailable or OutOfMemory."""
    with _readable(folder):
        model, lacking = load_modules(config, _weight_files(folder), dtype=dtype, device=device)
    _check_complete(folder, lacking)
    return model


def _load_quantized(
    folder: Path, precision: str, device: str, quantize_vision: bool
) -> "Qwen3VLModel":
    """Load int8 or nf4 by transformers and bitsandbytes.

    Raises ModelUnavailable or OutOfMemory.
    """
    if precision == "nf4":
        _check_nf4_shapes(folder)
    from transformers import BitsAndBytesConfig, Qwen3VLModel

    # CPUs without matrix units compute bf16 slower than fp32.
    compute = torch.bfloat16 if device.startswith("cuda") else torch.float32
    quantization = BitsAndBytesConfig(
        load_in_8bit=precision == "int8",
        load_in_4bit=precision == "nf4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=["lm_head"] if quantize_vision else ["visual", "lm_head"],
    )
    model: Qwen3VLModel = load_weights(
        Qwen3VLModel, folder, dtype=compute, device=device, quantization=quantization
    )
    _check_quantized(model, quantize_vision)
    return model


def _weight_files(folder: Path) -> list[Path]:
    """Return the files of a checkpoint's weights, as transformers chooses them."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        names = json.loads((folder / INDEX_FILE).read_text())["weight_map"].values()
        return [folder / name for name in sorted(set(names))]
    return sorted(folder.glob("*.safetensors"))


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Raise ModelUnavailable for files that cannot be read, OutOfMemory where memory is short."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ModelUnavailable(f"the checkpoint in {folder} cannot be read: {error}") from error
    except RuntimeError as error:
        raise OutOfMemory(
            f"the checkpoint in {folder} does not fit into the GPU memory that it may take: give "
            "it a larger share or precision int8, or let `quire plan` choose "
            f"({refusal_of(error)})"
        ) from error


def _check_complete(folder: Path, lacking: int) -> None:
    if lacking:
        raise ModelUnavailable(f"the checkpoint in {folder} lacks {lacking} weights")


def _check_nf4_shapes(folder: Path) -> None:
    """bitsandbytes multiplies in blocks of 64 weights and fails in mid-forward on other widths."""
    text = json.loads((folder / "config.json").read_text())["text_config"]
    for name in ("hidden_size", "intermediate_size"):
        if text[name] % NF4_BLOCK:
            raise ModelUnavailable(
                f"{folder.name} cannot run in nf4: its {name} of {text[name]} is no multiple of "
                f"{NF4_BLOCK}; use int8 or bf16"
            )


def _check_quantized(model: "Qwen3VLModel", quantize_vision: bool) -> None:
    """The skip list matches by module name and says nothing when it misses: look."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    def is_quantized(part: torch.nn.Module) -> bool:
        return any(isinstance(module, Linear4bit | Linear8bitLt) for module in part.modules())

    if not is_quantized(model.language_model) or is_quantized(model.visual) != quantize_vision:
        raise ModelUnavailable(
            "bitsandbytes did not quantise the layers that were asked for: its module names have "
            "changed; use bf16"
        )
