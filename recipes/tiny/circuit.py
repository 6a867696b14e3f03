"""The analytic start of quire-tiny's text tower: trained tables become attention weights.

Three layers compute a bag of words and a bag of visual features, each of length 1:

1. every token looks back for `<|im_end|>`: if there is one, it stands in the user's turn (FLAG);
   and for itself: the more often it occurred before, the less it will weigh, as in BM25;
2. `assistant` pools the words of the user's turn, weighted by a score that each token carries, and
   `<|im_end|>` pools the visual tokens, weighted by scores that the vision tower gave them;
3. the closing `<|endoftext|>` copies both, which the layer's RMSNorm has brought to equal length.

Keys encode a score s as the direction of (s, 1, …), for Qwen3 normalises keys; queries are constant
except in the head that looks for repetitions. Both use the slowest rotary frequencies, so positions
do not matter. MLPs are zero.
"""

import math
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextAttention, Qwen3VLVisionModel

from recipes.tiny.architecture import (
    HEAD_DIM,
    HIDDEN,
    KV_HEADS,
    LOOK_DIMS,
    WORD_DIMS,
    tiny_config,
    token_id,
)
from recipes.tiny.bag import REPEAT_GAIN
from recipes.tiny.tokenizer import ROLE_TOKENS, SPECIAL_TOKENS

# Reserved dimensions of the residual stream.
_ONE, _SCORE, _FLAG, _VISUAL, _END, _START, _CARRIER, _LENGTH = range(
    WORD_DIMS + LOOK_DIMS, HIDDEN - 8
)
LOOK_SCORES = slice(HIDDEN - KV_HEADS, HIDDEN)

# Dimensions of a head that carry keys: the slowest rotary frequencies. `_IDENTITY` tells tokens
# apart in the head that finds repetitions.
_A, _B, _C, _D, _E = 31, 30, 29, 28, 27
_IDENTITY = [*range(12, _E), *range(44, HEAD_DIM)]

CONTENT_NORM = 16.0
LOGIT_GAIN = 80.0
SHARP_GAIN = 128.0
ABSENT = 4.0
_OUTSIDE = 40.0
_POOL_GAIN = 50.0
_MATCH_GAIN = 56.0
# The query for words leans away from visual tokens, however high these score: words, which are at
# -ABSENT on the look's axis, rise by the same amount.
_SLANT = 0.25
_WORD_GAIN = LOGIT_GAIN / math.hypot(1.0, _SLANT)
_WORD_RISE = _WORD_GAIN * _SLANT * ABSENT / math.hypot(1.0, ABSENT)
# Change of a token's logit per unit of its score: scores are small, so this is nearly constant.
_LOGIT_PER_SCORE = 0.99 * _WORD_GAIN / math.hypot(1.0, ABSENT)
_REPEAT_SCORE = REPEAT_GAIN / _LOGIT_PER_SCORE
# Key of `<|im_start|>`, the place to look when there is nothing to pool: logits -3 and -40 for
# words and looks, below what is there and far above what is not.
_SINK_WORDS, _SINK_LOOKS = -0.272, -0.8315

# Dimensions of the embedding: every fifth belongs to the look, so that its head is a fair sample.
_LOOK_OUT = torch.arange(LOOK_DIMS) * 5 + 4
_WORD_OUT = torch.tensor([i for i in range(WORD_DIMS + LOOK_DIMS) if i % 5 != 4])


@dataclass(frozen=True)
class Look:
    """The trained vision side: state of the tower, and the (WORD_DIMS, LOOK_DIMS) projection."""

    visual: dict[str, torch.Tensor]
    projection: torch.Tensor


def build(tokenizer: Tokenizer, table: torch.Tensor, look: Look) -> Qwen3VLForConditionalGeneration:
    """A model that computes the bag of words of `table` (V, WORD_DIMS) and the look of `look`."""
    model = Qwen3VLForConditionalGeneration(tiny_config(tokenizer))
    with torch.no_grad():
        text = model.model.language_model
        identity = identity_projection()
        text.embed_tokens.weight.copy_(embedding_rows(tokenizer, table, identity))
        text.norm.weight.fill_(1.0)
        text.norm.weight[WORD_DIMS + LOOK_DIMS :] = 0.0
        for layer in text.layers:
            for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                linear.weight.zero_()
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        _set_gain(text.layers[0].self_attn, SHARP_GAIN)
        _set_turn_head(text.layers[0].self_attn)
        _set_repetition_head(text.layers[0].self_attn, identity)
        _set_pooling_layer(text.layers[1].self_attn, look.projection)
        _set_joining_layer(text.layers[2].self_attn)
        model.model.visual.load_state_dict(look.visual)
        _set_look_constants(model.model.visual)
    return model


def identity_projection() -> torch.Tensor:
    """(len(_IDENTITY), WORD_DIMS) random projection under which different tokens look different."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(_IDENTITY), WORD_DIMS, generator=generator) / math.sqrt(WORD_DIMS)


def embedding_rows(
    tokenizer: Tokenizer, table: torch.Tensor, identity: torch.Tensor
) -> torch.Tensor:
    """(V, HIDDEN) rows: direction, score (log of the row's length) and role of each token."""
    rows = torch.zeros(len(table), HIDDEN)
    rows[:, :WORD_DIMS] = functional.normalize(table, dim=-1) * CONTENT_NORM
    logits = table.norm(dim=-1).clamp(min=1e-6).log()
    # A first occurrence gets half of REPEAT_GAIN back from the head that counts repetitions.
    logits = (logits - logits.max() + 8.0).clamp(min=-10.0) - REPEAT_GAIN / 2
    # The score s whose key (s, 1, -ABSENT) has the cosine c with the slanted query:
    # (s + slant · ABSENT)² = c² (s² + 1 + ABSENT²).
    squares = ((logits + _WORD_RISE) / _WORD_GAIN).square()
    lean, rest = _SLANT * ABSENT, 1 + ABSENT**2
    root = (lean**2 - (1 - squares) * (lean**2 - squares * rest)).sqrt()
    rows[:, _SCORE] = (root - lean) / (1 - squares)
    rows[:, _LENGTH] = (rows[:, :WORD_DIMS] @ identity.T).norm(dim=-1)
    rows[:, _ONE] = 1.0
    for token in (*SPECIAL_TOKENS, *ROLE_TOKENS):
        row = rows[token_id(tokenizer, token)]
        row[:WORD_DIMS] = row[_LENGTH] = 0.0
        row[_SCORE] = -ABSENT
    rows[token_id(tokenizer, "<|im_end|>"), _END] = 1.0
    rows[token_id(tokenizer, "assistant\n"), _CARRIER] = 1.0
    start = rows[token_id(tokenizer, "<|im_start|>")]
    start[_START] = start[_FLAG] = 1.0
    start[_SCORE] = _SINK_WORDS - _REPEAT_SCORE
    return rows


def _set_gain(attention: Qwen3VLTextAttention, gain: float) -> None:
    """Make logits `gain` times the cosine of query and key."""
    weight = math.sqrt(gain / math.sqrt(HEAD_DIM))
    attention.q_norm.weight.fill_(weight)
    attention.k_norm.weight.fill_(weight)


def _set_turn_head(attention: Qwen3VLTextAttention) -> None:
    """Head 0 writes FLAG into every token behind an `<|im_end|>`; `<|im_start|>` has it already."""
    query, key = attention.q_proj.weight, attention.k_proj.weight
    query[_A, _ONE], query[_C, _START] = 1.0, 50.0
    key[_A, _END], key[_A, _START], key[_B, _ONE], key[_C, _START] = 2.0, 1.0, 1.0, 1.0
    attention.v_proj.weight[0, _END] = 1.0
    # RMSNorm scales the value by the length of the `<|im_end|>` row: ONE, END and SCORE.
    attention.o_proj.weight[_FLAG, 0] = math.sqrt((2.0 + ABSENT**2) / HIDDEN)


def _set_repetition_head(attention: Qwen3VLTextAttention, identity: torch.Tensor) -> None:
    """Head 2 finds the n occurrences of its own token so far and raises SCORE with 1 / (1 + n).

    It looks equally at each occurrence and at `<|im_start|>`, whose value is what it writes.
    """
    for norm in (attention.q_norm, attention.k_norm):
        norm.weight[[*_IDENTITY, _E]] = math.sqrt(_MATCH_GAIN / math.sqrt(HEAD_DIM))
    query = attention.q_proj.weight[2 * HEAD_DIM : 3 * HEAD_DIM]
    key = attention.k_proj.weight[HEAD_DIM : 2 * HEAD_DIM]
    query[_IDENTITY, :WORD_DIMS] = key[_IDENTITY, :WORD_DIMS] = identity
    query[_E, _LENGTH] = query[_E, _START] = key[_E, _START] = 1.0
    attention.v_proj.weight[HEAD_DIM, _START] = 1.0
    start_squares = 3.0 + (_SINK_WORDS - _REPEAT_SCORE) ** 2  # ONE, FLAG, START and SCORE
    attention.o_proj.weight[_SCORE, 2 * HEAD_DIM] = _REPEAT_SCORE * math.sqrt(
        start_squares / HIDDEN
    )


def _set_pooling_layer(attention: Qwen3VLTextAttention, projection: torch.Tensor) -> None:
    """Even heads pool words at `assistant`, odd heads visual tokens at `<|im_end|>`.

    All other tokens, and either of these when there is nothing to pool, look at `<|im_start|>`,
    whose value is zero.
    """
    _set_gain(attention, LOGIT_GAIN)
    query, key = attention.q_proj.weight, attention.k_proj.weight
    for head in range(KV_HEADS):
        words, looks, keys = 2 * head * HEAD_DIM, (2 * head + 1) * HEAD_DIM, head * HEAD_DIM
        span = slice(keys, keys + HEAD_DIM)
        query[words + _A, _CARRIER], query[words + _D, _CARRIER] = 100.0, -100.0 * _SLANT
        query[words + _C, _ONE] = 1.0
        query[looks + _D, _END], query[looks + _C, _ONE] = 100.0, 1.0
        key[keys + _A, _SCORE], key[keys + _A, _VISUAL] = 1.0, -ABSENT
        key[keys + _D, LOOK_SCORES.start + head], key[keys + _D, _VISUAL] = 1.0, ABSENT
        key[keys + _D, _START] = ABSENT + _SINK_LOOKS
        key[keys + _D, _ONE] = -ABSENT - _OUTSIDE
        key[keys + _A, _ONE] = -_OUTSIDE
        key[keys + _A, _FLAG] = key[keys + _D, _FLAG] = _OUTSIDE
        key[keys + _B, _ONE], key[keys + _C, _START] = 1.0, 1.0
        attention.v_proj.weight[span, span] = torch.eye(HEAD_DIM)
        attention.o_proj.weight[span, words : words + HEAD_DIM] = _POOL_GAIN * torch.eye(HEAD_DIM)
        attention.o_proj.weight[:LOOK_DIMS, looks : looks + HEAD_DIM] = (
            _POOL_GAIN * projection[span].T
        )


def _set_joining_layer(attention: Qwen3VLTextAttention) -> None:
    """Even heads copy the words from `assistant`, odd heads the look from `<|im_end|>`."""
    _set_gain(attention, SHARP_GAIN)
    query, key = attention.q_proj.weight, attention.k_proj.weight
    for head in range(KV_HEADS):
        words, looks, keys = 2 * head * HEAD_DIM, (2 * head + 1) * HEAD_DIM, head * HEAD_DIM
        span = slice(keys, keys + HEAD_DIM)
        query[words + _A, _ONE] = query[looks + _D, _ONE] = 1.0
        key[keys + _A, _CARRIER] = key[keys + _D, _END] = key[keys + _B, _ONE] = 1.0
        attention.v_proj.weight[span, span] = torch.eye(HEAD_DIM)
        attention.o_proj.weight[_WORD_OUT[span], words : words + HEAD_DIM] = torch.eye(HEAD_DIM)
        part = min(HEAD_DIM, LOOK_DIMS - keys)
        if part > 0:
            # Two `<|im_end|>` share the attention; only the user's has a look.
            rows = _LOOK_OUT[keys : keys + part]
            attention.o_proj.weight[rows, looks : looks + part] = 2.0 * torch.eye(part)


def _set_look_constants(visual: Qwen3VLVisionModel) -> None:
    """Give visual tokens their role through the bias of the merger; other roles stay zero."""
    for merger in (visual.merger, *visual.deepstack_merger_list):
        merger.linear_fc2.weight[WORD_DIMS : LOOK_SCORES.start] = 0.0
        merger.linear_fc2.bias[WORD_DIMS : LOOK_SCORES.start] = 0.0
    visual.merger.linear_fc2.bias[_ONE] = visual.merger.linear_fc2.bias[_VISUAL] = 1.0
