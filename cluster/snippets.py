"""The stretch of a text that shows best why it was found, and the words in it that did."""

from cluster.terms import runs, to_terms

STEP_CHARS = 20
MOST_TERMS = 64  # of a query, for a long one costs with every step
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
    terms = set(to_terms(query).split()[:MOST_TERMS])
    lowered = line.lower()
    if len(line) <= chars or not terms:
        return line[:chars]
    starts = range(0, len(line) - chars + STEP_CHARS, STEP_CHARS)
    best = max(starts, key=lambda start: _terms_within(lowered[start : start + chars], terms))
    if best:
        best = line.find(" ", best) + 1 or best  # begin with a whole word where there are words
    return ("… " if best else "") + line[best : best + chars]


def matches(text: str, query: str) -> list[tuple[int, int]]:
    """Character ranges [start, end) of a text that a query's terms match, in order, apart."""
    wanted = set(to_terms(query).split())
    wanted = wanted - COMMON_WORDS or wanted
    found: list[tuple[int, int]] = []
    for start, run in runs(text) if wanted else ():
        terms = to_terms(run).split()
        # A run of n Chinese, Japanese or Korean characters has n - 1 terms of two.
        width = 2 if len(terms) > 1 and len(terms) == len(run) - 1 else len(run)
        for offset, term in enumerate(terms):
            if term in wanted:
                _extend(found, start + offset, min(start + offset + width, start + len(run)))
    return found


def _extend(ranges: list[tuple[int, int]], start: int, end: int) -> None:
    """Add a range; one that touches the last becomes part of it."""
    if ranges and start <= ranges[-1][1]:
        start = ranges.pop()[0]
    ranges.append((start, end))


def _terms_within(window: str, terms: set[str]) -> int:
    return sum(term in window for term in terms)
