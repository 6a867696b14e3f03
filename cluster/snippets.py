"""The stretch of a text that shows best why it was found."""

from cluster.terms import to_terms

STEP_CHARS = 20


def snippet(text: str, query: str, *, chars: int) -> str:
    """The window of at most `chars` characters with the most different query terms, one line."""
    line = " ".join(text.split())
    terms = set(to_terms(query).split())
    lowered = line.lower()
    if len(line) <= chars or not terms:
        return line[:chars]
    starts = range(0, len(line) - chars + STEP_CHARS, STEP_CHARS)
    best = max(starts, key=lambda start: _terms_within(lowered[start : start + chars], terms))
    if best:
        best = line.find(" ", best) + 1 or best  # begin with a whole word where there are words
    return ("… " if best else "") + line[best : best + chars]


def _terms_within(window: str, terms: set[str]) -> int:
    return sum(term in window for term in terms)
