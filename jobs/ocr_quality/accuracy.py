"""How well an engine read a page: what it wrote against the truth.

Both texts are made comparable first: Unicode NFKC, every run of white space one space, and none
between Chinese or Japanese characters, where no reader would type it. Case and punctuation count.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from jobs.rendering.ocr import CJK, SPACE_INSIDE_CJK

WORD = re.compile(f"{CJK}|[^\\s\\u3000-\\u30ff\\u3400-\\u9fff\\uff00-\\uffef]+")


@dataclass(frozen=True)
class Accuracy:
    """Measures in [0, 1].

    `cer`: edit distance of characters / characters of the truth, clipped. `wer`: the same over
    words, where a Chinese or Japanese character counts as a word. `recall`: words of the truth that
    the engine wrote, wherever on the page. `fields`: share of the fields whose value it wrote, or
    None without fields.
    """

    cer: float
    wer: float
    recall: float
    fields: float | None


def comparable(text: str) -> str:
    """Text as it is compared."""
    plain = " ".join(unicodedata.normalize("NFKC", text).split())
    return SPACE_INSIDE_CJK.sub("", plain)


def accuracy(read: str, truth: str, fields: dict[str, str]) -> Accuracy:
    """Compare what was read with a truth that has at least one character. Raises ValueError."""
    read, truth = comparable(read), comparable(truth)
    if not truth:
        raise ValueError("a truth without characters")
    words, true_words = WORD.findall(read), WORD.findall(truth)
    common = sum((Counter(words) & Counter(true_words)).values())
    return Accuracy(
        cer=min(1.0, Levenshtein.distance(read, truth) / len(truth)),
        wer=min(1.0, Levenshtein.distance(words, true_words) / max(1, len(true_words))),
        recall=common / max(1, len(true_words)),
        fields=_field_share(read, fields),
    )


def _field_share(read: str, fields: dict[str, str]) -> float | None:
    values = [value for value in (comparable(str(each)) for each in fields.values()) if value]
    if not values:
        return None
    folded = read.casefold()
    return sum(value.casefold() in folded for value in values) / len(values)
