"""What the text tower computes of a query and a document, on their matching tokens alone.

The same function as the circuit's (see `circuit.py`), but a thousand pairs take milliseconds, so
all that is learned of words is learned here, with gradients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from models.tiny_reranker import architecture as arch
from models.tiny_reranker.candidates import Ints, Ranking

MOST_MATCHES = 64
MOST_DISTANCE = 4096
MATCH_UNITS = 24
POOL_GAIN = 128.0
POOL_SCALE = 40.0
# Sums are averages that a sink takes part in, as if it were so many tokens.
DOCUMENT_SINK = 4000.0
QUERY_SINK = 1000.0
# Features are brought to about 1 for the MLP; the last three are the best windows.
FEATURE_GAINS = (400.0, 200.0, 8.0, 100.0, 100.0, 100.0, 400.0, *(4.0,) * len(arch.WINDOW_LOGITS))
FEATURES = len(FEATURE_GAINS)
BEST = 7
# Logits by which the token that stands before in the query beats the start, side by side.
CHAIN_LOGIT = 1.5
STARTS = 2


@dataclass(frozen=True)
class Matches:
    """Tokens of B documents that stand in their queries, and the tokens of the queries.

    positions, tokens, counts (how often a token occurred so far, its own included), pairs (whether
    the token before it matches, too) and before (the one token that stands before it in the query,
    or -1) are (B, P), padded with positions of -1; queries (Q, T) is padded with -1; owners (B,)
    says whose document it is; lengths (B,) are in tokens.
    """

    positions: torch.Tensor
    tokens: torch.Tensor
    counts: torch.Tensor
    pairs: torch.Tensor
    before: torch.Tensor
    lengths: torch.Tensor
    queries: torch.Tensor
    owners: torch.Tensor


def find(query: Ints, document: Ints) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """Positions in the document that hold a token of the query, their counts and pairs."""
    positions = np.flatnonzero(np.isin(document, query)).astype(np.int32)
    tokens = document[positions]
    order = np.argsort(tokens, kind="stable")
    ordered = tokens[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    runs = np.diff(np.append(starts, len(ordered)))
    counts = np.empty(len(tokens), np.int32)
    counts[order] = np.arange(len(tokens)) - np.repeat(starts, runs) + 1
    before = np.where(positions > 0, document[positions - 1], -1).astype(np.int64)
    pairs = np.isin((before << 20) + tokens, (query[:-1].astype(np.int64) << 20) + query[1:])
    if len(positions) > MOST_MATCHES:
        kept = np.sort(np.argsort(counts, kind="stable")[:MOST_MATCHES])
        positions, counts, pairs = positions[kept], counts[kept], pairs[kept]
    return positions, counts, pairs


def before_each(query: Ints) -> dict[int, int]:
    """Tokens of a query and the token before; none for those that stand behind several."""
    found: dict[int, set[int]] = {}
    for before, token in zip(query[:-1].tolist(), query[1:].tolist(), strict=True):
        found.setdefault(token, set()).add(before)
    return {token: before.pop() for token, before in found.items() if len(before) == 1}


def collect(rankings: Sequence[Ranking]) -> Matches:
    """Matches of all pairs of some rankings, query by query."""
    found = [(find(r.query, d), d) for r in rankings for d in r.documents]
    chains = [before_each(ranking.query) for ranking in rankings]
    owners = np.repeat(np.arange(len(rankings)), [len(r.documents) for r in rankings])
    widest = max(1, max(len(f[0]) for f, _ in found))
    shape = (len(found), widest)
    positions, tokens = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
    counts, pairs = np.ones(shape, np.int64), np.zeros(shape, np.bool_)
    before = np.full(shape, -1, np.int64)
    for row, ((where, count, pair), document) in enumerate(found):
        part = slice(0, len(where))
        positions[row, part], tokens[row, part] = where, document[where]
        counts[row, part], pairs[row, part] = count, pair
        chain = chains[owners[row]]
        before[row, part] = [chain.get(token, -1) for token in document[where].tolist()]
    queries = np.full((len(rankings), max(len(r.query) for r in rankings)), -1, np.int64)
    for row, ranking in enumerate(rankings):
        queries[row, : len(ranking.query)] = ranking.query
    lengths = np.array([len(d) for _, d in found], np.float32)
    arrays = (positions, tokens, counts, pairs, before, lengths, queries, owners)
    return Matches(*(torch.from_numpy(array) for array in arrays))


class Matcher(nn.Module):
    """Token weights, what a match counts for, and the score of a pair."""

    def __init__(self, weights: torch.Tensor, seed: int) -> None:
        """`weights` (V,) are what tokens weigh at first, about 1."""
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.Parameter(torch.stack([weights, weights], 1))
        # Units of the second layer's MLP: gates of (repeat, near repeat, pair, 1), ups of the
        # two weights, outputs FIRST, AGAIN, HIT.
        gates, ups, downs = _match_start(generator, 4, 2 + len(arch.WINDOW_LOGITS))
        self.gates, self.ups, self.downs = (nn.Parameter(t) for t in (gates, ups, downs))
        chain_gates, chain_ups, chain_downs = _match_start(generator, 5, 1)
        self.chain_gates, self.chain_ups = nn.Parameter(chain_gates), nn.Parameter(chain_ups)
        self.chain_downs = nn.Parameter(chain_downs)
        units = arch.UNITS
        self.gate = nn.Linear(FEATURES + 1, units, bias=False)
        self.up = nn.Linear(FEATURES + 1, units, bias=False)
        self.down = nn.Linear(units, 1, bias=False)
        windows = [arch.window(n, MOST_DISTANCE) for n in range(len(arch.WINDOW_LOGITS))]
        self.windows: torch.Tensor
        self.register_buffer("windows", torch.stack(windows))

    def features(self, matches: Matches) -> torch.Tensor:
        """(B, FEATURES): sums over the document, its length, sums over the query, best windows."""
        there = matches.positions >= 0
        weights = self.weights[matches.tokens]
        ahead = matches.positions[:, :, None] - matches.positions[:, None, :]
        causal = (ahead >= 0) & there[:, :, None] & there[:, None, :]
        far = ahead.clamp(0, MOST_DISTANCE - 1)
        same = causal & (matches.tokens[:, :, None] == matches.tokens[:, None, :])
        near = self.windows[arch.NEAR_WINDOW][far]
        states = torch.stack(
            [
                1 / (1.0 + matches.counts),
                1 / (1.0 + (near * same).sum(-1)),
                matches.pairs.float(),
                torch.ones_like(near[..., 0]),
            ],
            -1,
        )
        weights = functional.pad(weights, (0, 1), value=1.0)
        units = functional.silu(states @ self.gates.T) * (weights @ self.ups.T)
        out = (units @ self.downs.T) * there[..., None]  # (B, P, 2 + windows)
        behind = causal & (matches.before[:, :, None] == matches.tokens[:, None, :])
        chain = (self.windows[arch.CHAIN_WINDOW][far] * behind).sum(-1) * math.exp(CHAIN_LOGIT)
        chain = chain / (chain + STARTS)
        states = torch.cat([chain[..., None], states], -1)
        units = functional.silu(states @ self.chain_gates.T) * (weights @ self.chain_ups.T)
        chained = (units @ self.chain_downs.T) * there[..., None]
        best = []
        for number in range(len(self.windows)):
            kernel = self.windows[number][far] * causal
            inside = (kernel @ out[..., 2 + number, None])[..., 0] / POOL_SCALE
            logits = POOL_GAIN * inside / (1 + inside.square()).sqrt()
            logits = logits.masked_fill(~there, -torch.inf)
            # Where nothing matches, the closing token looks at the start, whose window is empty.
            logits = functional.pad(logits, (0, 1), value=0.0)
            best.append((logits.softmax(-1)[:, :-1] * inside).sum(-1))
        asked = matches.queries >= 0
        words = self.weights[matches.queries.clamp(min=0)] * asked[..., None]
        # The markers, and what closes the user's turn, are words without weight.
        words_count = asked.sum(1, keepdim=True).float() + 1.0
        sums = torch.cat([words.sum(1), words_count], -1) / (QUERY_SINK + words_count)
        lengths = matches.lengths[:, None] + 3.0
        # One of the three starts that make up the sink stands behind the document: a third counts.
        parts = [out[..., :2].sum(1), lengths + DOCUMENT_SINK / 3]
        document = torch.cat(parts, -1) / (DOCUMENT_SINK + lengths)
        chained = chained.sum(1) / (DOCUMENT_SINK + lengths)
        features = torch.cat([document, sums[matches.owners], chained, torch.stack(best, -1)], -1)
        return features * torch.tensor(FEATURE_GAINS)

    def score(self, features: torch.Tensor) -> torch.Tensor:
        """(B,) logits of features."""
        inputs = functional.pad(features, (0, 1), value=1.0)
        hidden = functional.silu(self.gate(inputs)) * self.up(inputs)
        out: torch.Tensor = self.down(hidden)[:, 0]
        return out

    def forward(self, matches: Matches) -> torch.Tensor:
        return self.score(self.features(matches))


def _match_start(
    generator: torch.Generator, states: int, outputs: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Units that start as: first occurrences, fading repetitions, near ones and pairs of tokens."""
    sharp = 20.0
    gates = torch.randn(MATCH_UNITS, states, generator=generator) * 2.0
    ups = torch.randn(MATCH_UNITS, 3, generator=generator) * 0.3
    downs = torch.randn(outputs, MATCH_UNITS, generator=generator) * 0.02
    starts = [((6.0, 0.0, 0.0, -2.0), [0])]
    if states == 5:
        starts = [((1.0, 6.0, 0.0, 0.0, -3.0), [0])]
    elif outputs > 1:
        windows = list(range(2, outputs))
        starts += [((2.0, 0.0, 0.0, 0.0), [1]), ((0.0, 4.0, 0.0, -1.0), windows)]
        starts += [((0.0, 0.0, 1.0, -0.2), [1]), ((0.0, 4.0, 1.0, -2.0), windows)]
    for unit, (gate, targets) in enumerate(starts):
        gates[unit] = torch.tensor(gate) * sharp
        ups[unit] = torch.tensor([0.0, 1.0, 0.0] if unit > 2 else [1.0, 0.0, 0.0])
        downs[:, unit] = 0.0
        downs[targets, unit] = 1 / sharp
    return gates, ups, downs
