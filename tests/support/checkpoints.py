"""Checkpoints and pictures of random numbers, for tests of exactness."""

from pathlib import Path

import numpy as np
import torch
from transformers import AutoProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from models.registry import TINY_FOLDER


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """uint8[height, width, 3] of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save_random_checkpoint(folder: Path, *, tied: bool) -> Path:
    """A deeper checkpoint than quire-tiny: 3 deepstack levels, grouped queries, random weights."""
    processor = AutoProcessor.from_pretrained(TINY_FOLDER)
    processor.tokenizer.add_tokens(["yes", "no"])
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(processor.tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": tied,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "out_hidden_size": 128,
            "deepstack_visual_indexes": [0, 1, 3],
            "num_position_embeddings": 144,
        },
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        vision_start_token_id=processor.vision_start_token_id,
        vision_end_token_id=processor.vision_end_token_id,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():  # so that a wrong position or neighbour shows
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
