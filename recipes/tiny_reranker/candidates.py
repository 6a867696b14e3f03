"""Training material: queries on training pages and the pages that a first search might answer with.

A library is some manuals of the training split. Its queries are words or spans of one page; the
candidates are that page, what BM25 and quire-tiny's words rank first, and some of the same manual.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from benchmarks.corpus import PageText, keyword_query
from recipes.tiny.bag import bag

DOCUMENT_CHARS = 2400
CANDIDATES = 24
_QUESTIONS = (
    "how do I {}",
    "how to {}",
    "what is {}",
    "where is {} described",
    "which page is about {}?",
    "can I use {} with {}",
    "what does {} mean?",
    "find the {}",
    "show me {} and {}",
    "why does {} not work",
    "{} example",
    "explain {}",
)
_EASTERN_QUESTIONS = (
    "{}とは何ですか",
    "{}の方法",
    "{}について教えて",
    "{}はどこですか",
    "{}란 무엇입니까",
    "{} 방법",
    "{}에 대해 알려줘",
)
EASTERN = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Ranking:
    """A query's tokens and its candidates' tokens, the page that answers it first."""

    query: Ints
    documents: list[Ints]


def query_of(text: str, rng: random.Random) -> str | None:
    """A query that a page answers: words of a sentence, a span, or a question of its words."""
    if len(EASTERN.findall(text[:400])) > 40:
        return _eastern_query(text, rng)
    kind = rng.random()
    if kind < 0.45:
        return keyword_query(text, rng)
    if kind < 0.65:
        return keyword_query(text, rng, rng.randint(2, 9))
    words = text.split()
    if len(words) < 12:
        return None
    if kind < 0.85:
        length = rng.randint(2, 14)
        start = rng.randrange(max(1, len(words) - length))
        return " ".join(words[start : start + length])
    found = keyword_query(text, rng, rng.randint(2, 4))
    return None if found is None else _asked(found.split(), rng.choice(_QUESTIONS))


def _asked(words: list[str], question: str) -> str:
    if question.count("{}") == 1:
        return question.format(" ".join(words))
    return question.format(words[0], " ".join(words[1:]))


def _eastern_query(text: str, rng: random.Random) -> str | None:
    lines = [line for line in re.split(r"[\n。]", text) if len(EASTERN.findall(line)) >= 8]
    if not lines:
        return None
    line = rng.choice(lines)
    if rng.random() < 0.6:
        length = rng.randint(6, 26)
        start = rng.randrange(max(1, len(line) - length))
        return line[start : start + length]
    pieces = [p for p in re.split(r"[\s、,.()「」はがをにでのと]+", line) if len(p) >= 2]
    if not pieces:
        return None
    kept = sorted(rng.sample(range(len(pieces)), min(len(pieces), rng.randint(1, 4))))
    words = " ".join(pieces[i] for i in kept)
    return words if rng.random() < 0.6 else rng.choice(_EASTERN_QUESTIONS).format(words)


def bm25_weights(pages: Sequence[Ints], vocab_size: int) -> npt.NDArray[np.float32]:
    """(pages, V): what each token of a query adds to each page's BM25 score (k1 1.2, b 0.75)."""
    counts = np.stack([np.bincount(p, minlength=vocab_size) for p in pages]).astype(np.float32)
    seen = (counts > 0).sum(0)
    idf = np.log(1 + (len(pages) - seen + 0.5) / (seen + 0.5))
    lengths = counts.sum(1, keepdims=True)
    weights: npt.NDArray[np.float32] = (
        idf * counts * 2.2 / (counts + 1.2 * (0.25 + 0.75 * lengths / lengths.mean()))
    )
    return weights.astype(np.float32)


class Libraries:
    """Libraries of training manuals, drawn at random."""

    def __init__(
        self,
        texts: Sequence[PageText],
        tokenizer: Tokenizer,
        table: torch.Tensor,
        seed: int,
        pages: int = 500,
    ) -> None:
        """`table` (V, d) holds quire-tiny's words; `pages` is the size of a library."""
        self._tokenizer = tokenizer
        self._table = table
        self._rng = random.Random(seed)
        self._pages = pages
        self._documents: dict[str, list[str]] = {}
        for text in texts:
            cut = text.text[:DOCUMENT_CHARS]
            if len(cut) >= 200:
                self._documents.setdefault(text.doc, []).append(cut)

    def rankings(self) -> list[Ranking]:
        """The queries of one library with their candidates."""
        texts, owners = self._draw()
        pages = self._encode(texts)
        queries, gold = [], []
        for number, text in enumerate(texts):
            for _ in range(2):
                query = query_of(text, self._rng)
                if query is not None and query.strip():
                    queries.append(query)
                    gold.append(number)
        asked = self._encode(queries)
        weights = bm25_weights(pages, len(self._table))
        with torch.no_grad():
            dense = (bag(self._table, asked) @ bag(self._table, pages).T).numpy()
        out = []
        for number, tokens in enumerate(asked):
            lexical = weights[:, tokens].sum(1)
            chosen = self._candidates(gold[number], lexical, dense[number], owners)
            out.append(Ranking(tokens, [pages[page] for page in chosen]))
        return out

    def _draw(self) -> tuple[list[str], list[str]]:
        texts: dict[str, str] = {}
        names = list(self._documents)
        while len(texts) < self._pages:
            name = self._rng.choice(names)
            # Whole manuals, as they are searched; sections of a help are documents of one page.
            texts.update((text, name) for text in self._documents[name])
        return list(texts), list(texts.values())

    def _candidates(
        self,
        gold: int,
        lexical: npt.NDArray[np.float32],
        dense: npt.NDArray[np.float32],
        owners: Sequence[str],
    ) -> list[int]:
        best = [*np.argsort(-lexical)[:16].tolist(), *np.argsort(-dense)[:16].tolist()]
        others = [page for page in dict.fromkeys(best) if page != gold]
        others = self._rng.sample(others, min(len(others), CANDIDATES - 4))
        rest = [page for page in range(len(owners)) if page != gold]
        same = [page for page in rest if owners[page] == owners[gold]]
        others += self._rng.sample(same, min(len(same), 2))
        return [gold, *others, *self._rng.sample(rest, CANDIDATES - 1 - len(others))]

    def _encode(self, texts: Sequence[str]) -> list[Ints]:
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.array(e.ids or [0], np.int32) for e in encodings]
