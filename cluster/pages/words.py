"""The words of a page and where they stand, as its text layer has them."""

import json
import zlib
from dataclasses import dataclass

from cluster.errors import InvalidInput
from cluster.pages.vectors import Box
from cluster.text.snippets import matches

UNITS = 10_000  # of a page's side: half a pixel of a large screen
MAX_BYTES = 16 * 2**20  # of one page's words, before compression


@dataclass(frozen=True)
class PageWord:
    """A word, or a run of Chinese, Japanese or Korean text, and its box in shares of the page."""

    text: str
    box: Box


def to_bytes(words: list[PageWord]) -> bytes:
    """Compressed JSON."""
    rows = [[word.text, *(round(side * UNITS) for side in word.box)] for word in words]
    return zlib.compress(json.dumps(rows, ensure_ascii=False).encode("utf-8", "replace"))


def from_bytes(data: bytes) -> list[PageWord]:
    """Read what `to_bytes` wrote. Raises InvalidInput where it is anything else."""
    try:
        rows = json.loads(zlib.decompressobj().decompress(data, MAX_BYTES))
        return [
            PageWord(
                str(text), (int(left) / UNITS, int(top) / UNITS, int(x) / UNITS, int(y) / UNITS)
            )
            for text, left, top, x, y in rows
        ]
    except (ValueError, TypeError, RecursionError, OverflowError, zlib.error) as error:
        raise InvalidInput(f"these are no words of a page: ingest again ({error})") from error


def matched_words(words: list[PageWord], query: str) -> list[PageWord]:
    """Find the words that a query's terms match, each with the part of its box; in page order."""
    matched = []
    ranges = iter(matches(" ".join(word.text for word in words), query))
    start, end = next(ranges, (0, 0))
    at = 0
    for word in words:
        beyond = at + len(word.text)
        while end > at:  # a range may go on in the next word
            first, last = max(start, at), min(end, beyond)
            if first < last:
                matched.append(_part(word, first - at, last - at))
            if end > beyond:
                break
            start, end = next(ranges, (0, 0))
        at = beyond + 1
    return matched


def _part(word: PageWord, start: int, end: int) -> PageWord:
    """Some letters of a word and their share of its box, along its longer side."""
    left, top, right, bottom = word.box
    first, last = start / len(word.text), end / len(word.text)
    if bottom - top > right - left and len(word.text) > 1:  # set downwards
        height = bottom - top
        box = (left, top + first * height, right, top + last * height)
    else:
        width = right - left
        box = (left + first * width, top, left + last * width, bottom)
    return PageWord(word.text[start:end], box)
