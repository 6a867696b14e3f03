"""The configuration of quire-tiny-colqwen3: a vision tower that reads, a text tower that looks up.

The text tower only passes on what it is given: a row of the embedding table, or what the vision
tower made of 32 × 32 pixels. Both are codes of CODE_DIMS dimensions, and one more that is empty.
"""

from typing import Any

from tokenizers import Tokenizer
from transformers import Qwen3VLConfig

from recipes.tiny.architecture import tiny_config

# ColQwen3 projects to this width; with as many hidden dimensions the projection is the identity.
HIDDEN = 320
CODE_DIMS = HIDDEN - 1
# Where query tokens put what they do not want to be counted: no visual token has anything there.
ASIDE = HIDDEN - 1

VISION_HIDDEN = 128
VISION_DEPTH = 3
VISION_HEADS = 4
VISION_INTERMEDIATE = 1280
# An A4 page becomes 736 × 1024 pixels, about 89 dpi, 736 visual tokens.
MAX_PIXELS = 752 * 1024
MIN_PIXELS = 4 * 1024


def colqwen3_config(tokenizer: Tokenizer) -> Qwen3VLConfig:
    """quire-tiny's configuration with one idle text layer and a larger vision tower."""
    config = tiny_config(tokenizer)
    # Their types are not declared.
    text: Any = config.text_config
    vision: Any = config.vision_config
    text.update(
        {
            "hidden_size": HIDDEN,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
        }
    )
    vision.update(
        {
            "depth": VISION_DEPTH,
            "hidden_size": VISION_HIDDEN,
            "intermediate_size": VISION_INTERMEDIATE,
            "num_heads": VISION_HEADS,
            "out_hidden_size": HIDDEN,
        }
    )
    return config
