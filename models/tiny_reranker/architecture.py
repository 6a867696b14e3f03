"""The Qwen3-VL configuration of quire-tiny-reranker: layers, heads and what each dimension holds."""

import math

import torch
from tokenizers import Tokenizer
from transformers import Qwen3VLConfig

from models.tiny import architecture as tiny
from models.tiny.architecture import tiny_config

HEAD_DIM = 64
HEADS = 4
HIDDEN = 128
LAYERS = 4
UNITS = 64
# Frequencies 10^(-18 i / 32): the first eight tell near from far, the rest stand still.
ROPE_THETA = 1e18
MOVING = 8

CODE_DIMS = 40
HALF_CODE = CODE_DIMS // 2
LOOK_DIMS = 40
# Residual stream. Token codes, the second half of the code of the token before, the look.
CODE = slice(0, CODE_DIMS)
PREVIOUS = slice(CODE_DIMS, CODE_DIMS + HALF_CODE)
LOOK = slice(PREVIOUS.stop, PREVIOUS.stop + LOOK_DIMS)
(
    ONE,
    START,
    QUERY_MARK,
    DOCUMENT_MARK,
    LAST,
    VISUAL,
    IN_QUERY,
    IN_DOCUMENT,
    WORD,
    WEIGHT,
    PAIR_WEIGHT,
    MATCH,
    PAIR,
    REPEAT,
    NEAR_REPEAT,
    FIRST,
    AGAIN,
    HIT,
    HIT_2,
    HIT_3,
    WINDOW,
    WINDOW_2,
    WINDOW_3,
    CHAIN,
    CHAINED,
    ANSWER,
    LOOK_SCORE,
    LOOK_SCORE_2,
) = range(LOOK.stop, LOOK.stop + 28)
# Features of the pair, in the closing token only, where `PREVIOUS` is empty.
FEATURES = slice(PREVIOUS.start, PREVIOUS.start + 12)
# Length of ONE, beside which all else is small: RMSNorm then changes nothing but the scale.
CONSTANT = 64.0

# Weights of the moving frequencies in the logits of three windows of text that end at a token.
WINDOW_LOGITS = (
    (0.0, 0.0, 2.0, 6.0, 6.0, 6.0, 6.0, 6.0),
    (0.0, 0.0, 0.0, 3.0, 6.0, 6.0, 6.0, 6.0),
    (0.0, 0.0, 0.0, 0.8, 6.0, 6.0, 6.0, 6.0),
)
NEAR_WINDOW = 1
CHAIN_WINDOW = 1


def frequencies() -> torch.Tensor:
    """(HEAD_DIM / 2,) radians that a position turns each pair of dimensions by."""
    return ROPE_THETA ** (-torch.arange(HEAD_DIM // 2, dtype=torch.float64) * 2 / HEAD_DIM)


def window(number: int, distances: int) -> torch.Tensor:
    """(distances,) weights of the tokens 0, 1, … before the one that looks; its own is 1."""
    turns = torch.outer(torch.arange(distances, dtype=torch.float64), frequencies()[:MOVING])
    logits = torch.tensor(WINDOW_LOGITS[number], dtype=torch.float64)
    return ((turns.cos() - 1) @ logits).exp().float()


def reranker_config(tokenizer: Tokenizer) -> Qwen3VLConfig:
    """quire-tiny's configuration with this text tower; the vision tower differs in its output."""
    config = tiny_config(tokenizer)
    config.text_config.update(
        {
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": HIDDEN,
            "intermediate_size": UNITS,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "head_dim": HEAD_DIM,
        }
    )
    config.text_config.rope_parameters["rope_theta"] = ROPE_THETA
    config.vision_config.out_hidden_size = HIDDEN
    return config


__all__ = ["math", "tiny"]
