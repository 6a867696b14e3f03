"""Codes of the vocabulary: tokens that are spelled alike look alike, on paper and here.

A token's code is the sum of random directions, one for each of its letters, pairs and triples of
letters, and one of its own. So the vision tower need not see every word to know where it may stand,
as with the subwords of fastText (arXiv:1607.04606). How much a query token counts is its idf.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from recipes.tiny.tokenizer import ROLE_TOKENS, SPECIAL_TOKENS
from recipes.tiny_colqwen3.architecture import CODE_DIMS

# By the number of letters; a token's own direction is under 0.
_SHARES = {0: 0.6, 1: 0.3, 2: 1.0, 3: 0.8}
_MIN_INFLUENCE = 0.05
# Of tokens that no page holds: bytes, mostly.
_UNSEEN_INFLUENCE = 0.5


@dataclass(frozen=True)
class Codes:
    """Unit vectors (V, CODE_DIMS), and how much each token counts (V,), from 0 to 1."""

    table: torch.Tensor
    influence: torch.Tensor


def letter_codes(tokenizer: Tokenizer, pages: Iterable[np.ndarray], seed: int) -> Codes:
    """Codes and influences for a vocabulary, given the distinct tokens of each page."""
    total, seen = 0, Counter[int]()
    for tokens in pages:
        total += 1
        seen.update(tokens.tolist())
    size = tokenizer.get_vocab_size()
    parts = [_parts(spelling) for spelling in spellings(tokenizer)]
    counts = Counter[str]()
    for token, names in enumerate(parts):
        for name in names:
            counts[name] += seen[token] + 1
    everything = sum(seen.values()) + size
    numbers = {name: number for number, name in enumerate(counts)}
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(len(numbers), CODE_DIMS, generator=generator) / CODE_DIMS**0.5
    table = torch.zeros(size, CODE_DIMS)
    for token, names in enumerate(parts):
        for name, share in names.items():
            rarity = math.log(1 + everything / counts[name]) ** 0.5
            table[token] += share * rarity * directions[numbers[name]]
    table = functional.normalize(table, dim=-1)
    frequency = torch.tensor([float(seen[token]) for token in range(size)])
    table -= (table * frequency[:, None]).sum(0) / frequency.sum()
    return Codes(functional.normalize(table, dim=-1), _influence(tokenizer, frequency, total))


def _influence(tokenizer: Tokenizer, frequency: torch.Tensor, pages: int) -> torch.Tensor:
    idf = (pages / frequency.clamp(min=1)).log() / math.log(pages)
    idf = torch.where(frequency > 0, idf, torch.tensor(_UNSEEN_INFLUENCE))
    idf = idf.clamp(min=_MIN_INFLUENCE)
    for name in (*SPECIAL_TOKENS, *ROLE_TOKENS):
        idf[tokenizer.token_to_id(name)] = 0.0
    return idf


def spellings(tokenizer: Tokenizer) -> list[str]:
    """The letters of every token, after "_" if it begins a word."""
    return [_spelling(tokenizer, token) for token in range(tokenizer.get_vocab_size())]


def _spelling(tokenizer: Tokenizer, token: int) -> str:
    """A token's letters; the token as it is stored if it is only a part of one."""
    text = str(tokenizer.decoder.decode([tokenizer.id_to_token(token)]))
    if "\N{REPLACEMENT CHARACTER}" in text:
        return str(tokenizer.id_to_token(token))
    return text.replace(" ", "_")


def _parts(spelling: str) -> dict[str, float]:
    parts = {f"={spelling}": _SHARES[0]}
    for length in (1, 2, 3):
        for start in range(len(spelling) - length + 1):
            piece = spelling[start : start + length]
            if piece != "_":
                parts[piece] = parts.get(piece, 0.0) + _SHARES[length]
    return parts
