"""Checkpoints of every late-interaction architecture, as small as can be, and multi-vectors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from colpali_engine.models import ColPali, ColQwen2, ColQwen3
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoProcessor,
    PaliGemmaConfig,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    SiglipImageProcessor,
)

from models.late_interaction.model import forget_engines_renaming
from models.registry import TINY_FOLDER

forget_engines_renaming()  # checkpoints that other tests save keep their names


def save_colpali(folder: Path) -> Path:
    """ColPali at 56 × 56 px: a grid of 4 × 4 vectors."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>", "\n", *"abcdefghijklmnopqrstuvwxyz. "]
    words += ["Describe", "the", "image"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    images = SiglipImageProcessor(size={"height": 56, "width": 56})
    images.image_seq_length = 16  # type: ignore[attr-defined]
    processor = PaliGemmaProcessor(images, fast)
    vocabulary = len(processor.tokenizer)
    config = PaliGemmaConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 14,
            "image_size": 56,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "gemma",
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 24,
            "vocab_size": vocabulary,
            "pad_token_id": 0,
        },
        projection_dim=48,
        image_token_index=processor.image_token_id,
    )
    torch.manual_seed(0)
    return _save(ColPali(config), processor, folder)


def save_colqwen2(folder: Path) -> Path:
    """ColQwen2: one vector for 28 × 28 px."""
    tokenizer = AutoProcessor.from_pretrained(TINY_FOLDER).tokenizer
    size = {"shortest_edge": 4 * 784, "longest_edge": 24 * 784}
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(size=size),
        tokenizer,
        Qwen2VLVideoProcessor(size=size),
        chat_template="",
    )
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 4, 4]},
        },
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 48,
            "num_heads": 2,
            "mlp_ratio": 2,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    torch.manual_seed(0)
    return _save(ColQwen2(config), processor, folder)


def save_colqwen3(folder: Path) -> Path:
    """ColQwen3: one vector for 32 × 32 px."""
    processor = AutoProcessor.from_pretrained(TINY_FOLDER)
    config = Qwen3VLConfig.from_pretrained(TINY_FOLDER)
    torch.manual_seed(0)
    return _save(ColQwen3(config), processor, folder)


def _save(model: torch.nn.Module, processor: object, folder: Path) -> Path:
    model.save_pretrained(folder)  # type: ignore[operator]
    processor.save_pretrained(folder)  # type: ignore[attr-defined]
    return folder


# How each is saved, the width of its vectors, and that of its hidden states.
FAMILIES: dict[str, tuple[Callable[[Path], Path], int, int]] = {
    "colpali": (save_colpali, 128, 48),
    "colqwen2": (save_colqwen2, 128, 48),
    "colqwen3": (save_colqwen3, 320, 496),
}


def unit(rows: int, dimension: int = 128, seed: int = 0) -> np.ndarray:
    """Vectors of unit length, float32[rows, dimension]."""
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
