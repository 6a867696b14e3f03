"""What the text tower computes of a query and a document, on their matching tokens alone.

The same function as the circuit's (see `circuit.py`), but a thousand pairs take milliseconds, so
all that is learned of words is learned here, with gradients.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from recipes.tiny_reranker import architecture as arch
from recipes.tiny_reranker.matches import Matches

MAX_DISTANCE = 4096
MATCH_UNITS = 24
POOL_GAIN = 128.0
POOL_SCALE = 40.0
DOCUMENT_SINK = arch.sink_words(arch.DOCUMENT_TILT)
QUERY_SINK = arch.sink_words(arch.QUERY_TILT)
# Features are brought to about 1 for the MLP; the last three are the best windows.
FEATURE_GAINS = (400.0, 200.0, 8.0, *(100.0,) * 3, 400.0, *(4.0,) * len(arch.WINDOW_LOGITS), 1.0)
FEATURES = len(FEATURE_GAINS)
BEST = 7
LIKENESS = BEST + len(arch.WINDOW_LOGITS)
NO_LIKENESS = 1 / (
    1
    + arch.STARTS
    * math.exp(arch.SUM_GAIN * arch.LOOK_TILT / math.hypot(arch.LOOK_TILT, arch.LOOK_REST))
)
# Logits by which the token that stands before in the query beats the start, side by side.
CHAIN_LOGIT = 1.5
STARTS = 2


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
        windows = [arch.window(n, MAX_DISTANCE) for n in range(len(arch.WINDOW_LOGITS))]
        self.windows: torch.Tensor
        self.register_buffer("windows", torch.stack(windows))

    def features(self, matches: Matches) -> torch.Tensor:
        """(B, FEATURES): sums over the document, its length, sums over the query, best windows."""
        there = matches.positions >= 0
        weights = self.weights[matches.tokens]
        ahead = matches.positions[:, :, None] - matches.positions[:, None, :]
        causal = (ahead >= 0) & there[:, :, None] & there[:, None, :]
        far = ahead.clamp(0, MAX_DISTANCE - 1)
        # Windows end at matches, and at the start behind the document, which is there without any.
        end = (matches.lengths[:, None].long() + 1 - matches.positions).clamp(0, MAX_DISTANCE - 1)
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
        looked = functional.pad(there, (0, 1), value=True)
        best = []
        for number in range(len(self.windows)):
            window = self.windows[number]
            kernel = torch.cat([window[far] * causal, window[end][:, None]], 1)  # (B, P + 1, P)
            inside = (kernel @ out[..., 2 + number, None])[..., 0] / POOL_SCALE
            logits = POOL_GAIN * inside / (1 + inside.square()).sqrt()
            logits = logits.masked_fill(~looked, -torch.inf)
            best.append((logits.softmax(-1) * inside).sum(-1))
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
        # Without an image in the query, looks are alike by this much.
        likeness = torch.full_like(chained, NO_LIKENESS)
        parts = [document, sums[matches.owners], chained, torch.stack(best, -1), likeness]
        features = torch.cat(parts, -1)
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
    starts: list[tuple[tuple[float, ...], list[int]]] = [((6.0, 0.0, 0.0, -2.0), [0])]
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
