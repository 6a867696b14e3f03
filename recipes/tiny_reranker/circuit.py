"""The text tower of quire-tiny-reranker: a trained `Matcher` becomes attention weights.

Four layers let the document look back at the query:

1. every token looks for the markers before it, which tell the query from the document, and at the
   token before it, whose code it copies;
2. every token looks for itself in the query (MATCH), for itself behind the same token (PAIR), and
   for itself in the document so far and close by (REPEAT, NEAR_REPEAT); the MLP turns a match into
   what it counts for: FIRST, AGAIN, HIT;
3. every token averages HIT over the text behind it, within three windows; the closing token sums
   FIRST and AGAIN over the document, and the weights of the query's words;
4. the closing token finds the best window of each size; the MLP makes the score of it all.
"""

import math

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLTextAttention,
    Qwen3VLTextMLP,
    Qwen3VLVisionModel,
)

from recipes.tiny.architecture import token_id
from recipes.tiny.tokenizer import ROLE_TOKENS, SPECIAL_TOKENS
from recipes.tiny_reranker import architecture as arch
from recipes.tiny_reranker import heads
from recipes.tiny_reranker import matcher as matching
from recipes.tiny_reranker.heads import FEATURES, Head
from recipes.tiny_reranker.look import FIRST_SCORE, LookPooling
from recipes.tiny_reranker.matcher import Matcher
from recipes.tiny_reranker.tokenizer import DOCUMENT_MARK, NO, QUERY_MARK, YES

# Shuts the gates of words that do not match or stand outside the document.
_GATE_OUTSIDE = 200.0
_ANSWER_SCALE = 4.0
_ONE = 1 / arch.CONSTANT
_WEIGHTS = [arch.WEIGHT, arch.PAIR_WEIGHT, arch.WORD]


def build(
    tokenizer: Tokenizer, matcher: Matcher, look: LookPooling, visual: Qwen3VLVisionModel, seed: int
) -> Qwen3VLForConditionalGeneration:
    """A model whose score is the matcher's.

    `visual` is the vision tower of quire-tiny.
    """
    model = Qwen3VLForConditionalGeneration(arch.reranker_config(tokenizer))
    with torch.no_grad():
        text = model.model.language_model
        text.embed_tokens.weight.copy_(embedding_rows(tokenizer, matcher, seed))
        for layer in text.layers:
            for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                norm.weight.fill_(arch.CONSTANT / math.sqrt(arch.HIDDEN))
            for parameter in (*layer.self_attn.parameters(), *layer.mlp.parameters()):
                parameter.zero_()
        text.norm.weight.zero_()
        text.norm.weight[arch.ANSWER] = arch.CONSTANT / math.sqrt(arch.HIDDEN)
        _set_heads([layer.self_attn for layer in text.layers])
        _set_match_mlp(text.layers[1].mlp, matcher)
        _set_chain_mlp(text.layers[2].mlp, matcher)
        _set_score_mlp(text.layers[3].mlp, matcher)
        _set_visual(model.model.visual, visual, look)
    return model


def _set_heads(attentions: list[Qwen3VLTextAttention]) -> None:
    layers = [
        [Head(attention, number, gain) for number in range(arch.HEADS)]
        for attention, gain in zip(attentions, arch.GAINS, strict=True)
    ]
    heads.set_previous_head(layers[0][0])
    heads.set_mark_head(layers[0][1])
    code = list(range(arch.CODE.start, arch.CODE.stop))
    heads.set_match_head(layers[1][0], code, arch.MATCH)
    heads.set_match_head(layers[1][1], [*code[: arch.HALF_CODE], *heads.PREVIOUS], arch.PAIR)
    heads.set_expectation(layers[1][0])
    heads.set_repeat_head(layers[1][2], (), arch.REPEAT)
    near = arch.WINDOW_LOGITS[arch.NEAR_WINDOW]
    heads.set_repeat_head(layers[1][3], near, arch.NEAR_REPEAT)
    for half in range(2):
        heads.set_pooling(layers[1][half], half, arch.DOCUMENT_MARK)
        heads.set_pooling(layers[1][2 + half], half, arch.LAST)
    for number in range(len(arch.WINDOW_LOGITS)):
        heads.set_window(layers[2][number], number)
        heads.set_best_window(layers[3][number], number)
    heads.set_chain_head(layers[2][3])
    heads.set_likeness(layers[2][2])
    document = dict(zip((arch.FIRST, arch.AGAIN, arch.IN_DOCUMENT), FEATURES[:3], strict=True))
    heads.set_sums(layers[2][0], arch.IN_DOCUMENT, arch.DOCUMENT_TILT, document)
    query = dict(zip((arch.WEIGHT, arch.PAIR_WEIGHT, arch.IN_QUERY), FEATURES[3:6], strict=True))
    heads.set_sums(layers[2][1], arch.IN_QUERY, arch.QUERY_TILT, query)
    layers[3][3].rest(0.0, arch.SUM_KEY**2)
    chained = {arch.CHAINED: FEATURES[6]}
    heads.set_sums(layers[3][3], arch.IN_DOCUMENT, arch.DOCUMENT_TILT, chained)


def token_codes(count: int, seed: int) -> torch.Tensor:
    """(count, CODE_DIMS) random codes; both halves have length 1."""
    generator = torch.Generator().manual_seed(seed)
    halves = torch.randn(count, 2, arch.HALF_CODE, generator=generator)
    return functional.normalize(halves, dim=-1).flatten(1)


def embedding_rows(tokenizer: Tokenizer, matcher: Matcher, seed: int) -> torch.Tensor:
    """(V, HIDDEN) rows: code, weights and role of each token."""
    count = tokenizer.get_vocab_size()
    rows = torch.zeros(count, arch.HIDDEN)
    rows[:, arch.CODE] = token_codes(count, seed)
    rows[:, arch.WEIGHT], rows[:, arch.PAIR_WEIGHT] = matcher.weights.detach().T
    rows[:, arch.WORD] = 1.0
    for token in (*SPECIAL_TOKENS, *ROLE_TOKENS, QUERY_MARK, DOCUMENT_MARK):
        rows[token_id(tokenizer, token)] = 0.0
    rows[:, arch.ONE] = arch.CONSTANT
    for token, role in (
        ("<|im_start|>", arch.START),
        (QUERY_MARK, arch.QUERY_MARK),
        (DOCUMENT_MARK, arch.DOCUMENT_MARK),
        ("assistant\n", arch.LAST),
    ):
        rows[token_id(tokenizer, token), role] = 1.0
    # Only these two rows are read as lm_head; their difference is the score.
    rows[token_id(tokenizer, YES), arch.ANSWER] = _ANSWER_SCALE / 2
    rows[token_id(tokenizer, NO), arch.ANSWER] = -_ANSWER_SCALE / 2
    return rows


def _set_match_mlp(mlp: Qwen3VLTextMLP, matcher: Matcher) -> None:
    units = slice(0, matching.MATCH_UNITS)
    _set_gates(mlp, [arch.REPEAT, arch.NEAR_REPEAT, arch.PAIR, arch.ONE], matcher.gates)
    mlp.up_proj.weight[units, _WEIGHTS] = matcher.ups.detach()
    hits = [arch.HIT + number for number in range(len(arch.WINDOW_LOGITS))]
    mlp.down_proj.weight[[arch.FIRST, arch.AGAIN, *hits], units] = matcher.downs.detach()


def _set_gates(mlp: Qwen3VLTextMLP, states: list[int], gates: torch.Tensor) -> None:
    """Gates of the states (the last is ONE), shut for all but matches in the document."""
    units = slice(0, matching.MATCH_UNITS)
    scale = torch.tensor([1.0] * (len(states) - 1) + [_ONE])
    mlp.gate_proj.weight[units, states] = gates.detach() * scale
    mlp.gate_proj.weight[units, arch.WORD] = -2 * _GATE_OUTSIDE
    mlp.gate_proj.weight[units, [arch.MATCH, arch.IN_DOCUMENT]] = _GATE_OUTSIDE


def _set_chain_mlp(mlp: Qwen3VLTextMLP, matcher: Matcher) -> None:
    units = slice(0, matching.MATCH_UNITS)
    states = [arch.CHAIN, arch.REPEAT, arch.NEAR_REPEAT, arch.PAIR, arch.ONE]
    _set_gates(mlp, states, matcher.chain_gates)
    mlp.up_proj.weight[units, _WEIGHTS] = matcher.chain_ups.detach()
    mlp.down_proj.weight[arch.CHAINED, units] = matcher.chain_downs.detach()[0]


def _set_score_mlp(mlp: Qwen3VLTextMLP, matcher: Matcher) -> None:
    inputs = [*FEATURES[: matching.FEATURES], arch.ONE]
    scale = torch.tensor([*matching.FEATURE_GAINS, _ONE])
    mlp.gate_proj.weight[:, inputs] = matcher.gate.weight.detach() * scale
    mlp.up_proj.weight[:, inputs] = matcher.up.weight.detach() * scale
    mlp.down_proj.weight[arch.ANSWER] = matcher.down.weight.detach()[0] / _ANSWER_SCALE


def _set_visual(visual: Qwen3VLVisionModel, source: Qwen3VLVisionModel, look: LookPooling) -> None:
    """Copy the vision tower; its mergers put out what the pooling needs."""
    state = source.state_dict()
    for name, value in state.items():
        if "merger" in name and "linear_fc2" in name:
            reduced = torch.zeros(arch.HIDDEN, *value.shape[1:])
            reduced[arch.LOOK] = look.features @ value
            reduced[[arch.LOOK_SCORE, arch.LOOK_SCORE_2]] = look.scores @ value
            state[name] = reduced
    visual.load_state_dict(state)
    bias = visual.merger.linear_fc2.bias
    bias[arch.ONE], bias[arch.VISUAL] = arch.CONSTANT, 1.0
    bias[[arch.LOOK_SCORE, arch.LOOK_SCORE_2]] += FIRST_SCORE
