"""The stretch of a text that shows best why it was found, and the words in it that did."""

from collections.abc import Iterator
from typing import NamedTuple

from cluster.text.terms import runs, to_terms

MAX_TERMS = 64  # of a query, or in a window
MAX_PLACES = 32  # of one term in a text
# Words that are on every page: to mark them would hide the others.
COMMON_WORDS = frozenset(
    to_terms(
        "a an and are as at be but by for from has have in is it its not of on or that the their "
        "this to was were what when where which who will with"
    ).split()
)


def snippet(text: str, query: str, *, chars: int) -> str:
    """The window of at most `chars` characters with the most different query terms, one line."""
    line = " ".join(text.split())
    places = sorted(_places(line.lower(), to_terms(query).split()[:MAX_TERMS]))
    if len(line) <= chars or not places:
        return line[:chars]
    windows = _windows(places, chars)
    first, last, _ = max(windows, key=lambda window: window.terms, default=_Window(0, 0, 0))
    start = max(0, min(first - (chars - (last - first)) // 2, len(line) - chars))
    if start:
        start = line.find(" ", start, first) + 1 or start  # a whole word, where there are words
    return ("… " if start else "") + line[start : start + chars]


class _Window(NamedTuple):
    """Where the first and the last term in it stand, and how many different ones there are."""

    first: int
    last: int
    terms: int


def _places(text: str, terms: list[str]) -> Iterator[tuple[int, str]]:
    """Find where the terms stand, each a limited number of times."""
    for term in dict.fromkeys(terms):
        place = text.find(term)
        for _ in range(MAX_PLACES):
            if place < 0:
                break
            yield place, term
            place = text.find(term, place + len(term))


def _windows(places: list[tuple[int, str]], chars: int) -> Iterator[_Window]:
    """From each place on, what fits into so many characters."""
    for number, (first, _) in enumerate(places):
        within = [
            (place + len(term), term)
            for place, term in places[number : number + MAX_TERMS]
            if place + len(term) <= first + chars
        ]
        if within:
            yield _Window(first, within[-1][0], len({term for _, term in within}))


def matches(text: str, query: str) -> list[tuple[int, int]]:
    """Character ranges [start, end) of a text that a query's terms match, in order, apart."""
    wanted = set(to_terms(query).split())
    wanted = wanted - COMMON_WORDS or wanted
    ranges: list[tuple[int, int]] = []
    for start, run in runs(text) if wanted else ():
        terms = [run.lower()] if run.isascii() else to_terms(run).split()
        # A run of n Chinese, Japanese or Korean characters has n - 1 terms of two.
        width = 2 if len(terms) > 1 and len(terms) == len(run) - 1 else len(run)
        for offset, term in enumerate(terms):
            if term in wanted:
                _extend(ranges, start + offset, min(start + offset + width, start + len(run)))
    return ranges


def _extend(ranges: list[tuple[int, int]], start: int, end: int) -> None:
    """Add a range; one that touches the last becomes part of it."""
    if ranges and start <= ranges[-1][1]:
        start = ranges.pop()[0]
    ranges.append((start, end))
