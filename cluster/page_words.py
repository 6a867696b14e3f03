"""The words of a page and where they stand, as its text layer has them."""

import json
import zlib
from dataclasses import dataclass

from cluster.errors import InvalidInput
from cluster.page_vectors import Box
from cluster.snippets import matches

UNITS = 10_000  # of a page's side: half a pixel of a large screen
MOST_BYTES = 16 * 2**20  # of one page's words, before compression


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
    """What `to_bytes` wrote. Raises InvalidInput where it is anything else."""
    try:
        rows = json.loads(zlib.decompressobj().decompress(data, MOST_BYTES))
        return [
            PageWord(str(text), (left / UNITS, top / UNITS, right / UNITS, bottom / UNITS))
            for text, left, top, right, bottom in rows
        ]
    except (ValueError, TypeError, zlib.error) as error:
        raise InvalidInput(f"these are no words of a page: ingest again ({error})") from error


def matched_words(words: list[PageWord], query: str) -> list[PageWord]:
    """What a query's terms match, each with the part of its box that it takes; in page order."""
    found = []
    for word in words:
        left, top, right, bottom = word.box
        width = (right - left) / max(1, len(word.text))
        for start, end in matches(word.text, query):
            box = (left + start * width, top, left + end * width, bottom)
            found.append(PageWord(word.text[start:end], box))
    return found
