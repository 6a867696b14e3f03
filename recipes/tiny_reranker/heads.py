"""Attention heads of quire-tiny-reranker: what each looks for, and what it writes.

RMSNorm only scales, for ONE outweighs all else; q_norm and k_norm make logits `gain` times a
cosine. Keys and queries that must not depend on the distance use rotary frequencies that stand
still; windows use the moving ones, as sums of cosines.
"""

import math

from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextAttention

from recipes.tiny_reranker import architecture as arch
from recipes.tiny_reranker import matcher as matching

# Dimensions of a head: token codes, then single ones, all at frequencies that stand still.
_CODE = [*range(arch.MOVING, 28), *range(32 + arch.MOVING, 60)]
_INSIDE, _OUTSIDE, _SCORE, _SINK, _QUERY_REST, _KEY_REST = 28, 29, 30, 31, 60, 61
_PREVIOUS_LOGIT = 30.0
_MATCH_LOGIT = 100.0
# 2 · part² for a part that bfloat16 holds, so that a token's logit for itself equals the start's.
_REPEAT_LOGIT = 2 * (137 / 32) ** 2
# A match must reach this cosine of codes; codes of different tokens hardly reach 0.7.
_THRESHOLD = 0.85
# Large enough to outweigh all else in a key or a query.
_FAR = arch.CONSTANT
_ONE = 1 / arch.CONSTANT
# Where the pooling looks when there is no image: below any visual token, far above all else.
_POOL_TILT = 0.3125
# How far the queries of windows lean towards the start, in values that bfloat16 holds.
_WINDOW_TILTS = (3.375, 3.0, 2.8125)
# Below any window.
_NO_MATCH = 1.5
_SECOND_HALF = list(range(arch.HALF_CODE, arch.CODE_DIMS))
PREVIOUS = list(range(arch.PREVIOUS.start, arch.PREVIOUS.stop))
_EXPECTED = list(range(arch.EXPECTED.start, arch.EXPECTED.stop))
_LOOK = list(range(arch.LOOK.start, arch.LOOK.stop))
FEATURES = list(range(arch.FEATURES.start, arch.FEATURES.stop))


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


def set_previous_head(head: Head) -> None:
    head.find_near((_PREVIOUS_LOGIT,) * arch.MOVING)
    for dimension, turn in enumerate(arch.frequencies()[: arch.MOVING].tolist()):
        part = math.sqrt(_PREVIOUS_LOGIT) * _ONE
        head.query[dimension, arch.ONE] = part * math.cos(turn)
        head.query[dimension + arch.HEAD_DIM // 2, arch.ONE] = -part * math.sin(turn)
    length = _PREVIOUS_LOGIT * arch.MOVING
    head.rest(length, length)
    head.carry(*((s, t, 1.0) for s, t in zip(_SECOND_HALF, PREVIOUS, strict=True)))


def set_mark_head(head: Head) -> None:
    """Logits 0, 64, 128 and 192 for tokens without a role, the start, `<Query>:`, `<Document>:`."""
    length = math.sqrt(head.gain)
    head.query[_SCORE, arch.ONE] = length * _ONE
    for role, share in ((arch.START, 0.25), (arch.QUERY_MARK, 0.5), (arch.DOCUMENT_MARK, 0.75)):
        head.key[_SCORE, role] = length * share
        # The key of a role is as long as any other.
        head.key[_KEY_REST, role] = length * (math.sqrt(1 - share**2) - 1)
    head.key[_KEY_REST, arch.ONE] = length * _ONE
    head.carry((arch.QUERY_MARK, arch.IN_QUERY, 1.0), (arch.DOCUMENT_MARK, arch.IN_DOCUMENT, 1.0))


def set_match_head(head: Head, source: list[int], target: int) -> None:
    sink = _MATCH_LOGIT * _THRESHOLD
    head.find_code(_MATCH_LOGIT, source, sink)
    head.only(arch.IN_QUERY)
    head.rest(_MATCH_LOGIT + sink**2 / head.gain, _MATCH_LOGIT)
    head.carry((arch.IN_QUERY, target, 1.0))


def set_expectation(head: Head) -> None:
    """Let the match head also copy the code of the token that stands before in the query."""
    head.carry(*((s, t, 1.0) for s, t in zip(PREVIOUS, _EXPECTED, strict=True)))


def set_chain_head(head: Head) -> None:
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


def set_repeat_head(head: Head, near: tuple[float, ...], target: int) -> None:
    """Write 1 / (1 + n) for the n occurrences of a token so far: n equal logits and the start's."""
    logit = _REPEAT_LOGIT + sum(near)
    sink = logit - math.log(matching.STARTS)
    head.find_code(_REPEAT_LOGIT, list(range(arch.CODE.start, arch.CODE.stop)), sink)
    head.find_near(near)
    head.only(arch.IN_DOCUMENT)
    head.rest(logit + sink**2 / head.gain, logit)
    head.carry((arch.START, target, 1.0))


def set_window(head: Head, number: int) -> None:
    """Sum HIT over a window: an average in which the start outweighs all that a window holds."""
    logits = arch.WINDOW_LOGITS[number]
    tilt = _WINDOW_TILTS[number]
    head.find_near(logits)
    head.query[_SINK, arch.ONE] = tilt * _ONE
    head.key[_SINK, arch.START] = _FAR**2
    # Keys within and without the part that `set_sums` looks at are equally long.
    head.key[_OUTSIDE, arch.ONE] = arch.SUM_KEY * _ONE
    head.rest(sum(logits) + tilt**2, sum(logits) + arch.SUM_KEY**2)
    start = matching.STARTS * math.exp(tilt * math.sqrt(head.gain) - sum(logits))
    total = start + arch.window(number, matching.MAX_DISTANCE).sum().item()
    head.carry((arch.HIT + number, arch.WINDOW + number, total / matching.POOL_SCALE))


def set_sums(head: Head, role: int, tilt: float, paths: dict[int, int]) -> None:
    """Let the closing token average over a role's words and the starts."""
    head.key[_OUTSIDE, arch.ONE] = arch.SUM_KEY * _ONE
    head.key[_INSIDE, role], head.key[_INSIDE, arch.VISUAL] = arch.SUM_KEY, -arch.SUM_KEY
    head.key[_OUTSIDE, role], head.key[_OUTSIDE, arch.VISUAL] = -arch.SUM_KEY, arch.SUM_KEY
    head.key[_SINK, arch.START] = _FAR**2
    head.query[_INSIDE, arch.LAST] = _FAR**2
    head.query[_SINK, arch.LAST] = _FAR**2 * tilt
    head.carry(*((source, target, 1.0) for source, target in paths.items()))


def set_pooling(head: Head, half: int, role: int) -> None:
    """Let a role's token pool half of the look of the images that the head's keys admit."""
    head.query[_SCORE, role] = _FAR**2
    head.query[_SINK, role] = _FAR**2 * _POOL_TILT
    head.key[_SCORE, (arch.LOOK_SCORE, arch.LOOK_SCORE_2)[half]] = 1.0
    width = arch.LOOK_DIMS // 2
    head.carry(*((d, d, 1.0) for d in _LOOK[half * width : (half + 1) * width]))


def set_likeness(head: Head) -> None:
    """Let the closing token compare what it has seen with what the document's marker has."""
    # Nothing else shall be left of its query, nor of the marker's key.
    head.query[:, arch.LAST] = -arch.CONSTANT * head.query[:, arch.ONE]
    head.key[:, arch.DOCUMENT_MARK] = -arch.CONSTANT * head.key[:, arch.ONE]
    for here, seen in zip(_CODE, _LOOK, strict=False):
        head.query[here, seen] = head.key[here, seen] = 1.0
    head.key[_INSIDE, arch.DOCUMENT_MARK] = 1.0
    head.key[_SCORE, arch.LAST] = _FAR
    head.query[_SINK, arch.LAST] += arch.LOOK_TILT
    head.query[_KEY_REST, arch.LAST] -= arch.LOOK_REST
    head.key[_SINK, arch.START] = _FAR**2
    head.carry((arch.DOCUMENT_MARK, FEATURES[matching.LIKENESS], 1.0))


def set_best_window(head: Head, number: int) -> None:
    """Let the closing token find the largest window among matches; the start stands for none."""
    window = arch.WINDOW + number
    head.query[_SCORE, arch.ONE] = _ONE
    head.key[_SCORE, window] = 1.0
    head.key[_SCORE, arch.ONE] = -2 * _NO_MATCH * _ONE
    head.key[_SCORE, arch.MATCH] = head.key[_SCORE, arch.IN_DOCUMENT] = _NO_MATCH
    # The start behind the document, and no other.
    head.key[_SCORE, arch.START] = _NO_MATCH
    head.key[_KEY_REST, arch.ONE] = _ONE
    head.carry((window, FEATURES[matching.BEST + number], 1.0))
