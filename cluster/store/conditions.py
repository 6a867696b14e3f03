"""Conditions of a filter → Milvus expressions of digests, names of metadata, and literals.

Milvus Lite has no `not`, so it is pushed down to each condition, and refuses expressions that
nest 50 deep, so they are written as balanced trees.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from cluster.core import (
    AllOf,
    AnyOf,
    CerCompares,
    Condition,
    DocumentIs,
    IngestedCompares,
    MetadataCompares,
    MetadataIs,
    Not,
    Order,
    Scalar,
    TagIs,
)
from cluster.errors import InvalidInput
from cluster.ids import checked_doc_id, filter_label

MAX_LABELS = 256  # of a document
MAX_NUMBER = 2**63 - 1
SYMBOLS: dict[Order, str] = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
OPPOSITES: dict[Order, Order] = {"gt": "lte", "gte": "lt", "lt": "gte", "lte": "gt"}
# Texts that are compared as dates have this shape, and lie between these two.
DATE_SHAPE, BEFORE_DATES, AFTER_DATES = "____-__-__%", "0", ":"
DAY_MS = 86_400_000
_METADATA_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


def condition_expression(condition: Condition, *, negated: bool = False) -> str:
    """Return the Milvus expression of a condition, or of its opposite. Raises InvalidInput."""
    match condition:
        case Not():
            return condition_expression(condition.condition, negated=not negated)
        case AllOf():
            parts = [condition_expression(part, negated=negated) for part in condition.conditions]
            return _joined("or" if negated else "and", parts)
        case AnyOf():
            return _any_expression(condition.conditions, negated)
        case TagIs() | MetadataIs(value=str() | bool()):
            return _with_labels([_label(condition)], negated)
        case DocumentIs():
            return _of_documents([condition.doc_id], negated)
        case MetadataIs(key, value):
            return f"{_path(key)} {'!=' if negated else '=='} {checked_number(value)}"
        case MetadataCompares(key, order, bound):
            order = OPPOSITES[order] if negated else order
            if isinstance(bound, date):
                return _date_expression(_path(key), order, bound)
            return f"{_path(key)} {SYMBOLS[order]} {checked_number(bound)}"
        case IngestedCompares(order, bound):
            return _time_expression(OPPOSITES[order] if negated else order, bound)
        case CerCompares(order, bound):
            symbol = SYMBOLS[OPPOSITES[order] if negated else order]
            return f"(expected_cer >= 0 and expected_cer {symbol} {checked_share(bound)})"


def quoted(values: Iterable[str]) -> str:
    """Return digests, ids or keys as the values of a list in an expression."""
    return ", ".join(f'"{value}"' for value in values)


def is_one_of(field: str, values: Iterable[str]) -> str:
    """Return the expression for rows that have one of these digests, ids or keys in a field."""
    return f"{field} in [{quoted(values)}]"


def with_any_label(labels: Iterable[str]) -> str:
    """Return the expression for rows that carry one of these labels."""
    return f"array_contains_any(labels, [{quoted(labels)}])"


def asks_cer(condition: Condition | None) -> bool:
    """True where one of the conditions is about a page's expected CER."""
    match condition:
        case Not():
            return asks_cer(condition.condition)
        case AllOf() | AnyOf():
            return any(map(asks_cer, condition.conditions))
    return isinstance(condition, CerCompares)


def checked_metadata_key(key: str) -> str:
    """Return a name of metadata, which may stand in an expression. Raises InvalidInput."""
    if not _METADATA_KEY.fullmatch(key):
        raise InvalidInput(
            f"metadata key {key[:80]!r}: use letters, digits, _ . - (64 at most, a letter first)"
        )
    return key


def checked_number(value: Scalar) -> str:
    """Return a number as an expression has it. Raises InvalidInput."""
    if isinstance(value, str | bool) or not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise InvalidInput(f"write a number that can be stored: -{MAX_NUMBER} to {MAX_NUMBER}")
    return str(int(value)) if value == int(value) else repr(float(value))


def checked_share(value: float) -> str:
    """Return a number from 0 to 1 as an expression has it. Raises InvalidInput."""
    if not 0 <= value <= 1:  # also what is not a number
        raise InvalidInput(f"an expected CER is a share from 0 to 1, not {str(value)[:40]}")
    return f"{value:.6f}"


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970; a moment without a time zone is UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def _any_expression(conditions: Iterable[Condition], negated: bool) -> str:
    """Any of these, or none: all their labels, and all their documents, are asked for at once."""
    labels, doc_ids, parts = [], [], []
    for condition in conditions:
        match condition:
            case TagIs() | MetadataIs(value=str() | bool()):
                labels.append(_label(condition))
            case DocumentIs():
                doc_ids.append(condition.doc_id)
            case _:
                parts.append(condition_expression(condition, negated=negated))
    if labels:
        parts.append(_with_labels(labels, negated))
    if doc_ids:
        parts.append(_of_documents(doc_ids, negated))
    return _joined("and" if negated else "or", parts)


def _joined(word: Literal["and", "or"], parts: Sequence[str]) -> str:
    """Join expressions as a balanced tree."""
    if not parts:
        raise InvalidInput("`all` or `any` of no condition at all: write one in it")
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return f"({_joined(word, parts[:half])} {word} {_joined(word, parts[half:])})"


def _label(condition: TagIs | MetadataIs) -> str:
    if isinstance(condition, TagIs):
        return filter_label("tag", condition.tag)
    return filter_label("metadata", checked_metadata_key(condition.key), condition.value)


def _with_labels(labels: Sequence[str], negated: bool) -> str:
    """Rows that carry any of these labels, or none."""
    if not negated:
        return with_any_label(labels)
    # `not in` holds for places beyond the end of an array, too.
    listed = quoted(labels)
    return _joined("and", [f"labels[{place}] not in [{listed}]" for place in range(MAX_LABELS)])


def _of_documents(doc_ids: Sequence[str], negated: bool) -> str:
    listed = quoted(map(checked_doc_id, doc_ids))
    return f"doc_id {'not in' if negated else 'in'} [{listed}]"


def _path(key: str) -> str:
    return f'metadata["{checked_metadata_key(key)}"]'


def _date_expression(path: str, order: Order, day: date) -> str:
    """Texts that are dates, by their first ten characters; their time of day counts for nothing."""
    bound = day.isoformat()
    if order in ("gt", "lte"):  # of the whole day, so it is the next one that matters
        bound = AFTER_DATES if day == date.max else (day + timedelta(days=1)).isoformat()
    first, end = (bound, AFTER_DATES) if order in ("gt", "gte") else (BEFORE_DATES, bound)
    return f'({path} like "{DATE_SHAPE}" and ({path} >= "{first}" and {path} < "{end}"))'


def _time_expression(order: Order, bound: date | datetime) -> str:
    if isinstance(bound, datetime):
        return f"time_ms {SYMBOLS[order]} {to_ms(bound)}"
    start_ms = to_ms(datetime(bound.year, bound.month, bound.day))
    end_ms = start_ms + DAY_MS
    return {
        "gte": f"time_ms >= {start_ms}",
        "gt": f"time_ms >= {end_ms}",
        "lt": f"time_ms < {start_ms}",
        "lte": f"time_ms < {end_ms}",
    }[order]
