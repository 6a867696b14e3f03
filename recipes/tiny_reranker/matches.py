"""Tokens of documents that stand in their queries, found for many pairs at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from recipes.tiny_reranker.candidates import Ints, Ranking

MAX_MATCHES = 64


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
    if len(positions) > MAX_MATCHES:
        kept = np.sort(np.argsort(counts, kind="stable")[:MAX_MATCHES])
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
