"""The Qwen3-VL configuration of quire-tiny, its processor and its chat template."""

from typing import Any

from tokenizers import Tokenizer
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from recipes.tiny.tokenizer import END_OF_TEXT, SPECIAL_TOKENS

HEAD_DIM = 64
KV_HEADS = 6
WORD_DIMS = HEAD_DIM * KV_HEADS
LOOK_DIMS = 96
RESERVED_DIMS = 16
HIDDEN = WORD_DIMS + LOOK_DIMS + RESERVED_DIMS
# Positions do not matter to the analytic start: at this base position 3,000 turns dimension 12 of a
# head by only 0.1.
ROPE_THETA = 1e12

VISION_HIDDEN = 96
VISION_DEPTH = 3
VISION_HEADS = 3
VISION_INTERMEDIATE = 288
VISION_GRID = 24
DEEPSTACK_LAYER = 1
MAX_PIXELS = 208 * 1024
MIN_PIXELS = 4 * 1024

CHAT_TEMPLATE = """\
{%- macro render(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- else -%}
        {%- for part in content -%}
            {%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
            {%- elif part.type == 'video' or 'video' in part -%}
                {{- '<|video_pad|>' -}}
            {%- elif 'text' in part -%}
                {{- part.text -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- if messages[0].role != 'system' -%}
    {{- "<|im_start|>system\\nRepresent the user's input.<|im_end|>\\n" -}}
{%- endif -%}
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' + render(message.content) + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that the vocabulary must hold.

    Raises:
        KeyError: it does not.
    """
    found = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(token)
    return found


def tiny_config(tokenizer: Tokenizer) -> Qwen3VLConfig:
    """Configuration for a tokenizer's vocabulary and special tokens."""
    end = token_id(tokenizer, END_OF_TEXT)
    return Qwen3VLConfig(
        text_config={
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": HIDDEN,
            "intermediate_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2 * KV_HEADS,
            "num_key_value_heads": KV_HEADS,
            "head_dim": HEAD_DIM,
            "max_position_embeddings": 32768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": ROPE_THETA,
                "mrope_section": [12, 10, 10],
                "mrope_interleaved": True,
            },
            "rms_norm_eps": 1e-10,
            "use_cache": False,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": end,
            "pad_token_id": end,
        },
        vision_config={
            "depth": VISION_DEPTH,
            "hidden_size": VISION_HIDDEN,
            "intermediate_size": VISION_INTERMEDIATE,
            "num_heads": VISION_HEADS,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": HIDDEN,
            "num_position_embeddings": VISION_GRID**2,
            "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},
            "deepstack_visual_indexes": [DEEPSTACK_LAYER],
        },
        image_token_id=token_id(tokenizer, "<|image_pad|>"),
        video_token_id=token_id(tokenizer, "<|video_pad|>"),
        vision_start_token_id=token_id(tokenizer, "<|vision_start|>"),
        vision_end_token_id=token_id(tokenizer, "<|vision_end|>"),
        tie_word_embeddings=True,
    )


def tiny_processor(tokenizer: Tokenizer) -> Qwen3VLProcessor:
    """Processor with the embedder's chat template and the default pixel budget."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        extra_special_tokens=list(SPECIAL_TOKENS[1:]),
        model_max_length=32768,
        clean_up_tokenization_spaces=False,
    )
    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    pixels: dict[str, Any] = {
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "patch_size": 16,
        "merge_size": 2,
    }
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, temporal_patch_size=2, **pixels),
        tokenizer=fast,
        video_processor=Qwen3VLVideoProcessor(size=size, temporal_patch_size=2, **pixels),
        chat_template=CHAT_TEMPLATE,
    )
