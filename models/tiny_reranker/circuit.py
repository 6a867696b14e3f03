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

RMSNorm only scales, for ONE outweighs all else; q_norm and k_norm make logits `gain` times a
cosine. Keys and queries that must not depend on the distance use rotary frequencies that stand
still; windows use the moving ones, as sums of cosines.
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

from models.tiny.architecture import token_id
from models.tiny.tokenizer import ROLE_TOKENS, SPECIAL_TOKENS
from models.tiny_reranker import architecture as arch
from models.tiny_reranker import matcher as matching
from models.tiny_reranker.look import FIRST_SCORE, LookPooling
from models.tiny_reranker.matcher import Matcher
from models.tiny_reranker.tokenizer import DOCUMENT_MARK, NO, QUERY_MARK, YES

# Dimensions of a head: token codes, then single ones, all at frequencies that stand still.
_CODE = [*range(arch.MOVING, 28), *range(32 + arch.MOVING, 60)]
_INSIDE, _OUTSIDE, _SCORE, _SINK, _QUERY_REST, _KEY_REST = 28, 29, 30, 31, 60, 61
_PREVIOUS_LOGIT = 30.0
_MATCH_LOGIT = 100.0
# 2 · part² for a part that bfloat16 holds; the starts' share is as exact (see `_set_repeat_head`).
_REPEAT_LOGIT = 2 * (137 / 32) ** 2
# A match must reach this cosine of codes; codes of different tokens hardly reach 0.7.
_THRESHOLD = 0.85
# Large enough to outweigh all else in a key or a query.
_FAR = arch.CONSTANT
_GATE_OUTSIDE = 200.0
_ANSWER_SCALE = 4.0
_ONE = 1 / arch.CONSTANT
# Where the pooling looks when there is no image: below any visual token, far above all else.
_POOL_TILT = 0.3125
_NO_MATCH = 1.5
_SECOND_HALF = list(range(arch.HALF_CODE, arch.CODE_DIMS))
_PREVIOUS = list(range(arch.PREVIOUS.start, arch.PREVIOUS.stop))
_EXPECTED = list(range(arch.EXPECTED.start, arch.EXPECTED.stop))
_LOOK = list(range(arch.LOOK.start, arch.LOOK.stop))
_WEIGHTS = [arch.WEIGHT, arch.PAIR_WEIGHT, arch.WORD]
_FEATURES = list(range(arch.FEATURES.start, arch.FEATURES.stop))


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
        layers = [
            [Head(layer.self_attn, number, gain) for number in range(arch.HEADS)]
            for layer, gain in zip(text.layers, arch.GAINS, strict=True)
        ]
        _set_previous_head(layers[0][0])
        _set_mark_head(layers[0][1])
        code = list(range(arch.CODE.start, arch.CODE.stop))
        _set_match_head(layers[1][0], code, arch.MATCH)
        _set_match_head(layers[1][1], [*code[: arch.HALF_CODE], *_PREVIOUS], arch.PAIR)
        _set_expectation(layers[1][0])
        _set_repeat_head(layers[1][2], (), arch.REPEAT)
        _set_repeat_head(layers[1][3], arch.WINDOW_LOGITS[arch.NEAR_WINDOW], arch.NEAR_REPEAT)
        _set_match_mlp(text.layers[1].mlp, matcher)
        for number in range(len(arch.WINDOW_LOGITS)):
            _set_window(layers[2][number], number)
            _set_best_window(layers[3][number], number)
        _set_chain_head(layers[2][3])
        _set_chain_mlp(text.layers[2].mlp, matcher)
        document = (arch.FIRST, arch.AGAIN, arch.IN_DOCUMENT)
        query = (arch.WEIGHT, arch.PAIR_WEIGHT, arch.IN_QUERY)
        _set_sums(
            layers[2][0],
            arch.IN_DOCUMENT,
            arch.DOCUMENT_TILT,
            dict(zip(document, _FEATURES[:3], strict=True)),
        )
        _set_sums(
            layers[2][1],
            arch.IN_QUERY,
            arch.QUERY_TILT,
            dict(zip(query, _FEATURES[3:6], strict=True)),
        )
        layers[3][3].key[_OUTSIDE, arch.ONE] = arch.SUM_KEY * _ONE
        layers[3][3].rest(0.0, arch.SUM_KEY**2)
        _set_sums(
            layers[3][3],
            arch.IN_DOCUMENT,
            arch.DOCUMENT_TILT,
            {arch.CHAINED: _FEATURES[6]},
        )
        for half in range(2):
            _set_pooling(layers[1][half], half, arch.DOCUMENT_MARK)
            _set_pooling(layers[1][2 + half], half, arch.LAST)
        _set_likeness(layers[2][2])
        _set_visual(model.model.visual, visual, look)
        _set_score_mlp(text.layers[3].mlp, matcher)
    return model


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


class Head:
    """One attention head, written as if logits were products: gain makes up for q_norm and k_norm.

    `rest` fills queries and keys up to the length of √gain, so that normalising changes nothing.
    """

    def __init__(self, attention: Qwen3VLTextAttention, number: int, gain: float) -> None:
        span = slice(number * arch.HEAD_DIM, (number + 1) * arch.HEAD_DIM)
        self.query = attention.q_proj.weight[span]
        self.key = attention.k_proj.weight[span]
        self.value = attention.v_proj.weight[span]
        self.out = attention.o_proj.weight[:, span]
        self.gain = gain
        for norm in (attention.q_norm, attention.k_norm):
            norm.weight.fill_(math.sqrt(gain / math.sqrt(arch.HEAD_DIM)))

    def find_code(self, logit: float, source: list[int], threshold: float) -> None:
        """Find keys with the query's code, or the start where no logit reaches the threshold."""
        part = math.sqrt(logit / 2)
        for here, there in zip(_CODE, source, strict=True):
            self.query[here, there] = self.key[here, there] = part
        self.query[_SINK, arch.ONE] = threshold / math.sqrt(self.gain) * _ONE
        self.key[_SINK, arch.START] = _FAR**2

    def find_near(self, logits: tuple[float, ...]) -> None:
        """Prefer near tokens: cosines of the distance at the moving frequencies."""
        for dimension, logit in enumerate(logits):
            part = math.sqrt(logit) * _ONE
            self.query[dimension, arch.ONE] = self.key[dimension, arch.ONE] = part

    def only(self, role: int) -> None:
        """Keys without the role match nothing."""
        self.key[_OUTSIDE, arch.ONE] = _FAR * _ONE
        self.key[_OUTSIDE, role] = -_FAR

    def rest(self, query_square: float, key_square: float) -> None:
        """Fill queries and keys of these squared lengths up."""
        self.query[_QUERY_REST, arch.ONE] = math.sqrt(self.gain - query_square) * _ONE
        self.key[_KEY_REST, arch.ONE] = math.sqrt(self.gain - key_square) * _ONE

    def carry(self, *paths: tuple[int, int, float]) -> None:
        """Values: (from, to, factor), behind those that the head carries already."""
        first = int(self.value.any(1).sum())
        for number, (source, target, factor) in enumerate(paths, first):
            self.value[number, source] = 1.0
            self.out[target, number] = factor


def _set_previous_head(head: Head) -> None:
    head.find_near((_PREVIOUS_LOGIT,) * arch.MOVING)
    for dimension, turn in enumerate(arch.frequencies()[: arch.MOVING].tolist()):
        part = math.sqrt(_PREVIOUS_LOGIT) * _ONE
        head.query[dimension, arch.ONE] = part * math.cos(turn)
        head.query[dimension + arch.HEAD_DIM // 2, arch.ONE] = -part * math.sin(turn)
    length = _PREVIOUS_LOGIT * arch.MOVING
    head.rest(length, length)
    head.carry(*((s, t, 1.0) for s, t in zip(_SECOND_HALF, _PREVIOUS, strict=True)))


def _set_mark_head(head: Head) -> None:
    """Logits 0, 64, 128 and 192 for tokens without a role, the start, `<Query>:`, `<Document>:`."""
    length = math.sqrt(head.gain)
    head.query[_SCORE, arch.ONE] = length * _ONE
    for role, share in ((arch.START, 0.25), (arch.QUERY_MARK, 0.5), (arch.DOCUMENT_MARK, 0.75)):
        head.key[_SCORE, role] = length * share
        # The key of a role is as long as any other.
        head.key[_KEY_REST, role] = length * (math.sqrt(1 - share**2) - 1)
    head.key[_KEY_REST, arch.ONE] = length * _ONE
    head.carry((arch.QUERY_MARK, arch.IN_QUERY, 1.0), (arch.DOCUMENT_MARK, arch.IN_DOCUMENT, 1.0))


def _set_match_head(head: Head, source: list[int], target: int) -> None:
    sink = _MATCH_LOGIT * _THRESHOLD
    head.find_code(_MATCH_LOGIT, source, sink)
    head.only(arch.IN_QUERY)
    head.rest(_MATCH_LOGIT + sink**2 / head.gain, _MATCH_LOGIT)
    head.carry((arch.IN_QUERY, target, 1.0))


def _set_expectation(head: Head) -> None:
    """Let the match head also copy the code of the token that stands before in the query."""
    head.carry(*((s, t, 1.0) for s, t in zip(_PREVIOUS, _EXPECTED, strict=True)))


def _set_chain_head(head: Head) -> None:
    """Write how surely the token that is expected before this one stands close before it."""
    near = arch.WINDOW_LOGITS[arch.CHAIN_WINDOW]
    logit = _REPEAT_LOGIT + sum(near)
    sink = logit - matching.CHAIN_LOGIT
    part = math.sqrt(_REPEAT_LOGIT)
    for here, expected, code in zip(_CODE, _EXPECTED, _SECOND_HALF, strict=False):
        head.query[here, expected] = head.key[here, code] = part
    head.query[_SINK, arch.ONE] = sink / math.sqrt(head.gain) * _ONE
    head.key[_SINK, arch.START] = _FAR**2
    head.find_near(near)
    head.only(arch.IN_DOCUMENT)
    head.rest(logit + sink**2 / head.gain, logit)
    head.carry((arch.IN_DOCUMENT, arch.CHAIN, 1.0))


def _set_repeat_head(head: Head, near: tuple[float, ...], target: int) -> None:
    """Write 1 / (1 + n) for the n occurrences of a token so far: n equal logits and the start's."""
    logit = _REPEAT_LOGIT + sum(near)
    sink = logit - math.log(matching.STARTS)
    head.find_code(_REPEAT_LOGIT, list(range(arch.CODE.start, arch.CODE.stop)), sink)
    head.find_near(near)
    head.only(arch.IN_DOCUMENT)
    head.rest(logit + sink**2 / head.gain, logit)
    head.carry((arch.START, target, 1.0))


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


def _set_window(head: Head, number: int) -> None:
    """Average HIT over a window; keys within and without the sums' part are equally long."""
    logits = arch.WINDOW_LOGITS[number]
    head.find_near(logits)
    head.rest(sum(logits), sum(logits) + arch.SUM_KEY**2)
    head.key[_OUTSIDE, arch.ONE] = arch.SUM_KEY * _ONE
    total = arch.window(number, matching.MOST_DISTANCE).sum().item()
    head.carry((arch.HIT + number, arch.WINDOW + number, total / matching.POOL_SCALE))


def _set_sums(head: Head, role: int, tilt: float, paths: dict[int, int]) -> None:
    """Let the closing token average over a role's words and the starts."""
    head.key[_INSIDE, role], head.key[_INSIDE, arch.VISUAL] = arch.SUM_KEY, -arch.SUM_KEY
    head.key[_OUTSIDE, role], head.key[_OUTSIDE, arch.VISUAL] = -arch.SUM_KEY, arch.SUM_KEY
    head.key[_SINK, arch.START] = _FAR**2
    head.query[_INSIDE, arch.LAST] = _FAR**2
    head.query[_SINK, arch.LAST] = _FAR**2 * tilt
    head.carry(*((source, target, 1.0) for source, target in paths.items()))


def _set_pooling(head: Head, half: int, role: int) -> None:
    """Let a role's token pool half of the look of the images that the head's keys admit."""
    head.query[_SCORE, role] = _FAR**2
    head.query[_SINK, role] = _FAR**2 * _POOL_TILT
    head.key[_SCORE, (arch.LOOK_SCORE, arch.LOOK_SCORE_2)[half]] = 1.0
    width = arch.LOOK_DIMS // 2
    head.carry(*((d, d, 1.0) for d in _LOOK[half * width : (half + 1) * width]))


def _set_likeness(head: Head) -> None:
    """Let the closing token compare what it has seen with what the document's marker has."""
    # Nothing else shall be left of its query, nor of the marker's key.
    head.query[:, arch.LAST] = -arch.CONSTANT * head.query[:, arch.ONE]
    head.key[:, arch.DOCUMENT_MARK] = -arch.CONSTANT * head.key[:, arch.ONE]
    for here, seen in zip(_CODE, _LOOK, strict=False):
        head.query[here, seen] = head.key[here, seen] = 1.0
    head.key[_INSIDE, arch.DOCUMENT_MARK] = 1.0
    head.key[_SCORE, arch.LAST] = _FAR
    head.query[_SINK, arch.LAST] = arch.LOOK_TILT
    head.query[_KEY_REST, arch.LAST] = -arch.LOOK_REST
    head.key[_SINK, arch.START] = _FAR**2
    head.carry((arch.DOCUMENT_MARK, _FEATURES[matching.LIKENESS], 1.0))


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


def _set_best_window(head: Head, number: int) -> None:
    """Let the closing token find the largest window among matches; the start stands for none."""
    window = arch.WINDOW + number
    head.query[_SCORE, arch.ONE] = _ONE
    head.key[_SCORE, window] = 1.0
    head.key[_SCORE, arch.ONE] = -2 * _NO_MATCH * _ONE
    head.key[_SCORE, arch.MATCH] = head.key[_SCORE, arch.IN_DOCUMENT] = _NO_MATCH
    # The start behind the document, and no other.
    head.key[_SCORE, arch.START] = _NO_MATCH
    head.key[_KEY_REST, arch.ONE] = _ONE
    head.carry((window, _FEATURES[matching.BEST + number], 1.0))


def _set_score_mlp(mlp: Qwen3VLTextMLP, matcher: Matcher) -> None:
    inputs = [*_FEATURES[: matching.FEATURES], arch.ONE]
    scale = torch.tensor([*matching.FEATURE_GAINS, _ONE])
    mlp.gate_proj.weight[:, inputs] = matcher.gate.weight.detach() * scale
    mlp.up_proj.weight[:, inputs] = matcher.up.weight.detach() * scale
    mlp.down_proj.weight[arch.ANSWER] = matcher.down.weight.detach()[0] / _ANSWER_SCALE
