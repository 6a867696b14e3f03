"""Checkpoints of a real model's shape with random weights: speed and memory need no others."""

from contextlib import nullcontext
from pathlib import Path

import torch
from transformers import AutoModel, AutoProcessor, Qwen3VLConfig

from cluster.capacity.shapes import QWEN3_VL_2B, QWEN3_VL_8B, ModelShape
from models.registry import TINY_FOLDER

SHAPES = {"2b": QWEN3_VL_2B, "8b": QWEN3_VL_8B}


def write_random_checkpoint(shape: ModelShape, folder: Path) -> None:
    """A Qwen3-VL checkpoint in bf16, made on the GPU if there is one.

    Tokenizer and processor are quire-tiny's, whose ids all lie within a real vocabulary.
    """
    processor = AutoProcessor.from_pretrained(TINY_FOLDER)
    with torch.device("cuda") if torch.cuda.is_available() else nullcontext():
        model = AutoModel.from_config(config_of(shape), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def config_of(shape: ModelShape) -> Qwen3VLConfig:
    """Return the configuration of a Qwen3-VL of this shape, with quire-tiny's special tokens."""
    text, vision = shape.text, shape.vision
    processor = AutoProcessor.from_pretrained(TINY_FOLDER)
    step = vision.depth // (vision.levels + 1)
    third = text.head_dim // 6  # as the real ones: 24, 20, 20 of 64 pairs
    return Qwen3VLConfig(
        text_config={
            "vocab_size": text.vocabulary,
            "hidden_size": text.width,
            "intermediate_size": text.mlp,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "head_dim": text.head_dim,
            "tie_word_embeddings": text.tied,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [text.head_dim // 2 - 2 * third, third, third],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": vision.depth,
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp,
            "num_heads": vision.heads,
            "out_hidden_size": text.width,
            "patch_size": vision.patch_px,
            "spatial_merge_size": vision.merge,
            "temporal_patch_size": vision.frames,
            "deepstack_visual_indexes": [step * (n + 1) - 1 for n in range(vision.levels)],
            "num_position_embeddings": vision.positions,
        },
        tie_word_embeddings=text.tied,
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        vision_start_token_id=processor.vision_start_token_id,
        vision_end_token_id=processor.vision_end_token_id,
    )
