"""A page of the documents, newest first, however many there are.

Milvus sorts nothing, but it counts fast: counts of what is newer than some moments tell how far
back the newest rows reach, so that only some more than those asked for are read.
"""

import time
from collections.abc import Sequence
from functools import partial

from cluster.core import Document
from cluster.errors import InvalidInput
from cluster.store import schema
from cluster.store.client import SESSION, Client
from cluster.store.conditions import is_one_of
from cluster.store.format import StoredCollection

MAX_ROWS = 10_000  # of a list that can be turned to
MORE_ROWS = 2_000  # than asked for, that are read at most
MAX_WORD_CHARS = 256
OTHER = "%"  # in a pattern: Milvus Lite takes `_` for one byte
MINUTE_MS, DAY_MS = 60_000, 86_400_000
AGES_MS = (
    *(MINUTE_MS * minutes for minutes in (1, 10, 60, 360)),
    *(DAY_MS * days for days in (1, 7, 30, 90, 365, 3650)),
)
PARTS = 16  # into which a time is cut where too much happened in it


def list_documents(
    client: Client, stored: StoredCollection, expression: str, limit: int, offset: int
) -> tuple[list[Document], int]:
    """Return documents number `offset` to `offset + limit` that pass, newest first, and a count.

    Raises InvalidInput beyond MAX_ROWS.
    """
    if offset + limit > MAX_ROWS:
        raise InvalidInput(
            f"a list can be turned to its {MAX_ROWS:,} newest documents: filter for the others, "
            "for example by when they were ingested"
        )
    total = client.count(stored.documents, expression, SESSION)
    since_ms = 0
    if total > offset + limit + MORE_ROWS:
        since_ms = _since(client, stored, expression, offset + limit)
    recent = f"{expression} and time_ms >= {since_ms}"
    rows = client.query_all(stored.documents, recent, ("doc_key", "time_ms"), SESSION)
    rows.sort(key=lambda row: (-row["time_ms"], row["doc_key"]))
    keys = [row["doc_key"] for row in rows[offset : offset + limit]]
    if not keys:
        return [], total
    fields = ("doc_key", *stored.document_fields)
    entities = client.query(stored.documents, is_one_of("doc_key", keys), fields, SESSION)
    documents = {entity["doc_key"]: schema.to_document(entity) for entity in entities}
    return [documents[key] for key in keys if key in documents], total


def like_word(stored: StoredCollection, word: str) -> str:
    """Return the expression for documents whose title or file name holds a text, in any case.

    What is neither letter nor digit stands for any. Collections of an older Quire are searched as
    it is typed.
    """
    if stored.has_keys:
        return f'{schema.LISTED_AS} like "{_pattern(word.casefold())}"'
    return f'(title like "{_pattern(word)}" or source like "{_pattern(word)}")'


def _pattern(word: str) -> str:
    """Return a pattern of letters and digits, which may stand in an expression."""
    letters = "".join(each if each.isalnum() else OTHER for each in word[:MAX_WORD_CHARS])
    return f"%{letters}%"


def _since(client: Client, stored: StoredCollection, expression: str, rows: int) -> int:
    """Return a moment (ms since 1970) since when there are `rows` documents, and not many more."""
    now_ms = int(time.time() * 1000)
    moments = [0, *(now_ms - age for age in reversed(AGES_MS)), now_ms + DAY_MS]
    while True:
        counts = _counts(client, stored, expression, moments[1:-1])
        enough = [index for index, count in enumerate(counts, 1) if count >= rows]
        last = max(enough, default=0)
        start, end = moments[last], moments[last + 1]
        is_few = bool(enough) and counts[last - 1] <= rows + MORE_ROWS
        if is_few or end - start <= PARTS:
            return start
        step = (end - start) // PARTS
        moments = [start + step * part for part in range(PARTS)] + [end]


def _counts(
    client: Client, stored: StoredCollection, expression: str, moments: Sequence[int]
) -> list[int]:
    """Count the documents since each of these moments, all at once."""

    def count(moment_ms: int) -> int:
        since = f"{expression} and time_ms >= {moment_ms}"
        return client.count(stored.documents, since, SESSION)

    return client.all_at_once([partial(count, moment) for moment in moments])
