"""Pre-training of the text side as a bag of words.

A text's vector is the sum of the rows of one table over its tokens, normalised to length 1. A row's
direction is what a token means, its length how much it weighs. Softmax attention from one token
over all others computes the same function (see `architecture.py`), so the table becomes the
embedding table of the checkpoint, and training it costs milliseconds a step.
"""

import logging
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from benchmarks.corpus import PageText, chunks

log = logging.getLogger(__name__)

# Weight of a token that occurs n times: each repetition adds less, as in BM25 (`architecture.py`
# computes the same with an attention head that finds earlier occurrences of a token).
REPEAT_GAIN = 8.0
_OCCURRENCES = np.arange(1, 20000)
SATURATION = np.cumsum(
    np.concatenate([[0.0], np.exp(REPEAT_GAIN * (1 / (1 + _OCCURRENCES) - 1 / 2))])
).astype(np.float32)

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Passage:
    """Tokens of a chunk or page; `words[i]` is the number of the word that token i belongs to.

    `page` is a number shared by all passages of one page.
    """

    tokens: Ints
    words: Ints
    page: int


def passages(texts: Sequence[PageText], tokenizer: Tokenizer) -> list[list[Passage]]:
    """Chunks and whole pages as tokens, grouped by document; a text seen before is left out."""
    seen: set[str] = set()
    grouped: dict[str, list[tuple[str, int]]] = {}
    for page, text in enumerate(texts):
        if text.text in seen:
            continue
        seen.add(text.text)
        parts = chunks(text.text)
        whole = [text.text] if len(parts) > 1 else []
        grouped.setdefault(text.doc, []).extend((part, page) for part in [*parts, *whole])
    documents = []
    for pairs in grouped.values():
        encodings = tokenizer.encode_batch([part for part, _ in pairs], add_special_tokens=False)
        documents.append(
            [
                Passage(np.array(e.ids, np.int32), np.array(e.word_ids, np.int32), page)
                for e, (_, page) in zip(encodings, pairs, strict=True)
                if len(e.ids) >= 8
            ]
        )
    return [document for document in documents if document]


def query_tokens(passage: Passage, rng: random.Random) -> Ints:
    """Tokens of a query that the passage answers: a span, or some words of a stretch of it."""
    starts = np.flatnonzero(np.diff(passage.words, prepend=-1))
    kind = rng.random()
    stretch = rng.randint(3, 12) if kind < 0.3 else rng.randint(8, 30)
    first = rng.randrange(max(1, len(starts) - stretch + 1))
    words = list(range(first, min(first + stretch, len(starts))))
    if kind >= 0.3:
        words = sorted(rng.sample(words, min(len(words), rng.randint(2, 8))))
    ends = np.append(starts[1:], len(passage.tokens))
    return np.concatenate([passage.tokens[starts[w] : ends[w]] for w in words])


def bag(table: torch.Tensor, texts: Sequence[Ints]) -> torch.Tensor:
    """(V, d) table and B texts → (B, d) vectors of length 1."""
    counted = [np.unique(tokens, return_counts=True) for tokens in texts]
    offsets = np.cumsum([0, *(len(tokens) for tokens, _ in counted[:-1])])
    summed = functional.embedding_bag(
        torch.from_numpy(np.concatenate([tokens for tokens, _ in counted])).long(),
        table,
        torch.from_numpy(offsets),
        mode="sum",
        per_sample_weights=torch.from_numpy(SATURATION[np.concatenate([n for _, n in counted])]),
    )
    return functional.normalize(summed, dim=-1)


def idf_table(
    documents: Sequence[Sequence[Passage]], vocab_size: int, width: int, seed: int
) -> torch.Tensor:
    """(V, d): random directions, each as long as the token's inverse document frequency."""
    seen = np.zeros(vocab_size)
    total = 0
    for document in documents:
        for passage in document:
            seen[np.unique(passage.tokens)] += 1
            total += 1
    idf = torch.from_numpy(np.log((total + 1) / (seen + 0.5))).float().clamp(min=0.02)
    directions = torch.randn(vocab_size, width, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(directions, dim=-1) * idf[:, None]


def train_bag(
    documents: Sequence[Sequence[Passage]],
    vocab_size: int,
    width: int,
    steps: int,
    seed: int,
    batch: int = 512,
    lr: float = 0.006,
    per_document: int = 8,
) -> torch.Tensor:
    """InfoNCE over (query, passage) pairs; other pages of the same document are hard negatives.

    Passages of the query's own page are no negatives. Returns the (V, width) table.
    """
    rng = random.Random(seed)
    table = idf_table(documents, vocab_size, width, seed).requires_grad_()
    log_scale = torch.tensor(math.log(20.0), requires_grad=True)
    optimiser = torch.optim.Adam(
        [{"params": [table], "lr": lr}, {"params": [log_scale], "lr": 0.01}], betas=(0.9, 0.99)
    )
    peaks = [group["lr"] for group in optimiser.param_groups]
    sizes = [min(len(document), 60) ** 0.5 for document in documents]
    running = 0.0
    for step in range(steps):
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * min(1.0, (step + 1) / 50, 1.02 - step / steps)
        chosen = [
            passage
            for document in rng.choices(documents, sizes, k=batch // per_document)
            for passage in rng.sample(document, min(per_document, len(document)))
        ]
        queries = bag(table, [query_tokens(passage, rng) for passage in chosen])
        found = bag(table, [passage.tokens for passage in chosen])
        pages = torch.tensor([passage.page for passage in chosen])
        same = (pages[:, None] == pages) & ~torch.eye(len(pages), dtype=torch.bool)
        scores = (queries @ found.T * log_scale.exp()).masked_fill(same, -torch.inf)
        loss = functional.cross_entropy(scores, torch.arange(len(chosen)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0 or step == steps - 1:
            scale = log_scale.exp().item()
            log.info("bag step %d of %d: loss %.3f, scale %.1f", step, steps, running, scale)
    return table.detach()
