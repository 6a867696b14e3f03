"""The Qwen3-VL configuration of quire-tiny-reranker, and what each dimension of it holds."""

import math
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import Qwen3VLConfig

from recipes.tiny.architecture import tiny_config

HEAD_DIM = 64
HEADS = 4
HIDDEN = 144
LAYERS = 4
UNITS = 64
# Frequencies 10^(-18 i / 32): the first eight tell near from far, the rest stand still.
ROPE_THETA = 1e18
MOVING = 8

CODE_DIMS = 40
HALF_CODE = CODE_DIMS // 2
LOOK_DIMS = 36
# Residual stream. Words: their code, half the code of the word before, and of the one that stands
# before in the query. Visual tokens, and those that pool them: the look.
CODE = slice(0, CODE_DIMS)
PREVIOUS = slice(CODE.stop, CODE.stop + HALF_CODE)
EXPECTED = slice(PREVIOUS.stop, PREVIOUS.stop + HALF_CODE)
LOOK = slice(EXPECTED.stop, EXPECTED.stop + LOOK_DIMS)
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
# Length of ONE, beside which all else is small, so that RMSNorm only scales. It is 16 · √HIDDEN:
# roles then pass through the norms of bfloat16 unchanged.
CONSTANT = 192.0

# Sums are averages in which the start takes part as if it were so many words: the closing token's
# query leans towards it by these tilts, few bits long so that bfloat16 holds them.
SUM_GAIN = 128.0
SUM_KEY = 1.5
DOCUMENT_TILT = 3 / 16
QUERY_TILT = 11 / 64
STARTS = 3
# The query by which the closing token compares looks: towards the start, and away from all else.
LOOK_TILT = 4.0
LOOK_REST = 84.0
# What q_norm and k_norm make of the largest cosine, in each layer.
GAINS = (256.0, 256.0, SUM_GAIN, SUM_GAIN)


def sink_words(tilt: float) -> float:
    """How many words the starts outweigh together."""
    lead = (SUM_GAIN * tilt - math.sqrt(SUM_GAIN) * SUM_KEY) / math.hypot(1.0, tilt)
    return STARTS * math.exp(lead)


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
    # Their types are not declared.
    text: Any = config.text_config
    vision: Any = config.vision_config
    text.update(
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
    text.rope_parameters["rope_theta"] = ROPE_THETA
    vision.out_hidden_size = HIDDEN
    return config
