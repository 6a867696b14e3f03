"""The checkpoint from its parts: ColQwen3 whose text tower passes everything on unchanged."""

from typing import Any

import torch
from colpali_engine.models import ColQwen3
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import Qwen3VLProcessor

from recipes.tiny.architecture import tiny_processor
from recipes.tiny_colqwen3.architecture import (
    ASIDE,
    CODE_DIMS,
    HIDDEN,
    MAX_PIXELS,
    MIN_PIXELS,
    colqwen3_config,
)
from recipes.tiny_colqwen3.codes import Codes

# Long rows keep more of their digits in float16; every vector is normalised at the end.
_ROW_LENGTH = 16.0


def build(tokenizer: Tokenizer, codes: Codes, visual: dict[str, torch.Tensor]) -> ColQwen3:
    """A model that gives text tokens their rows, and visual tokens what `visual` makes of them."""
    model = ColQwen3(colqwen3_config(tokenizer))
    with torch.no_grad():
        text = model.language_model
        text.embed_tokens.weight.copy_(embedding_rows(codes))
        text.norm.weight.fill_(1.0)
        for layer in text.layers:
            for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                linear.weight.zero_()
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.custom_text_proj.weight.copy_(torch.eye(HIDDEN))
        model.custom_text_proj.bias.zero_()
        model.visual.load_state_dict(visual)
    return model


def embedding_rows(codes: Codes) -> torch.Tensor:
    """(V, HIDDEN): the code as long as the token counts, the rest of its length aside.

    Late interaction gives every query token a vector of length 1. What lies aside meets nothing on
    a page, so it adds 0 to every score, and template tokens, which count 0, add nothing at all.
    """
    rows = torch.zeros(len(codes.table), HIDDEN)
    rows[:, :CODE_DIMS] = functional.normalize(codes.table, dim=-1) * codes.influence[:, None]
    rows[:, ASIDE] = (1 - codes.influence.square()).sqrt()
    return rows * _ROW_LENGTH


def colqwen3_processor(tokenizer: Tokenizer) -> Qwen3VLProcessor:
    """quire-tiny's processor with the pixels that reading takes."""
    processor: Any = tiny_processor(tokenizer)
    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    processor.image_processor.size = dict(size)
    processor.video_processor.size = dict(size)
    made: Qwen3VLProcessor = processor
    return made
