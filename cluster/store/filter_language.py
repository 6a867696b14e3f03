"""The language of filters: JSON → conditions. docs/search.md describes it for people.

    filter  {"all": [filter, …]}  {"any": [filter, …]}  {"not": filter}  {NAME: test}
            {"metadata": {KEY: test}}; NAME is tag, document, ingested, expected_cer or a KEY
    test    a value  {"gte": bound}  {"any": [test, …]}  {"all": [test, …]}  {"not": test}

Several names in one object must all hold.
"""

import json
import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, NoReturn, TypeVar, get_args

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
    TagIs,
)
from cluster.errors import InvalidInput
from cluster.ids import checked_doc_id
from cluster.store.conditions import checked_metadata_key, checked_number, checked_share

MAX_CONDITIONS = 100
MAX_DEPTH = 8  # objects in objects
ORDERS: tuple[Order, ...] = get_args(Order)
SHOWN_CHARS = 40
T = TypeVar("T")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_filter_text(text: str | None) -> Condition | None:
    """Return what a filter asks for that may have been left out. Raises as `parse_filter` does."""
    return parse_filter(text) if text else None


def parse_filter(source: object) -> Condition | None:
    """Return what a filter asks for; None of `{}`, which lets everything pass.

    source: the JSON as text, or as it was parsed. Raises InvalidInput, which says where in the
    filter something is wrong and what to write there.
    """
    value = _read_json(source) if isinstance(source, str) else source
    if value == {}:
        return None
    condition = _filter(value, "filter", 1)
    if _count(condition) > MAX_CONDITIONS:
        raise InvalidInput(f"filter: more than {MAX_CONDITIONS} conditions: ask for fewer at once")
    return condition


def _read_json(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f'filter: not JSON ({error}): write an object such as {{"year": {{"gte": 2020}}}}'
        ) from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that stands twice in an object, of which JSON would keep the last alone."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        _refuse(
            "filter", f'{_shown(twice)} stands twice in an object: use {{"all": [{{…}}, {{…}}]}}'
        )
    return dict(pairs)


def _filter(value: object, place: str, depth: int) -> Condition:
    parts = [
        _named(name, part, _inside(place, name), depth + 1)
        for name, part in _object(value, place, depth, 'such as {"year": 2024}')
    ]
    return _together(parts)


def _named(name: str, value: object, place: str, depth: int) -> Condition:
    match name:
        case "all" | "any":
            return _group(name, value, place, lambda item, at: _filter(item, at, depth))
        case "not":
            return Not(_filter(value, place, depth))
        case "tag" | "document" | "ingested" | "expected_cer":
            return _test(name, "", value, place, depth)
        case "metadata":
            example = 'such as {"year": 2024}'
            tests = _object(value, place, depth, example)
            return _together(
                [
                    _test("metadata", key, test, _inside(place, key), depth + 1)
                    for key, test in tests
                ]
            )
    return _test("metadata", name, value, place, depth)


def _test(field: str, key: str, value: object, place: str, depth: int) -> Condition:
    """Read what one field must be: a value, or an object of tests that must all hold."""
    if field == "metadata":
        _at(place, lambda: checked_metadata_key(key))
    if not isinstance(value, dict):
        return _equals(field, key, value, place)
    parts: list[Condition] = []
    for name, part in _object(value, place, depth, 'such as {"gte": 2020}'):
        at = _inside(place, name)
        match name:
            case "all" | "any":
                parts.append(
                    _group(name, part, at, lambda item, at: _test(field, key, item, at, depth + 1))
                )
            case "not":
                parts.append(Not(_test(field, key, part, at, depth + 1)))
            case "gt" | "gte" | "lt" | "lte":
                parts.append(_compares(field, key, name, part, at))
            case _:
                _refuse(at, f"there is no such test: write one of all, any, not, {_listed(ORDERS)}")
    return _together(parts)


def _equals(field: str, key: str, value: object, place: str) -> Condition:
    if isinstance(value, list):
        _refuse(place, 'write {"any": […]} or {"all": […]} around a list')
    if value is None:
        _refuse(place, "null is no value: write a text, a number, true or false")
    match field, value:
        case "tag", str() if value:
            return TagIs(value)
        case "tag", _:
            _refuse(place, 'a tag is a text: write {"tag": "invoice"}')
        case "document", str():
            return DocumentIs(_at(place, lambda: checked_doc_id(value)))
        case "document", _:
            _refuse(place, "write a document's id as text, as `quire documents` prints it")
        case "ingested", _:
            moment = _moment(value, place)
            return AllOf((IngestedCompares("gte", moment), IngestedCompares("lte", moment)))
        case "expected_cer", _:
            _refuse(place, 'write a range of it: {"expected_cer": {"lte": 0.1}}')
        case _, str() | bool():
            return MetadataIs(key, value)
        case _, int() | float():
            _at(place, lambda: checked_number(value))
            return MetadataIs(key, value)
    _refuse(place, f"{_shown(value)} is no value: write a text, a number, true or false")


def _compares(field: str, key: str, order: Order, value: object, place: str) -> Condition:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match field, value:
        case "tag" | "document", _:
            _refuse(place, f"a {field} has no order: write its name, or any, all or not")
        case "ingested", _:
            return IngestedCompares(order, _moment(value, place))
        case "expected_cer", int() | float() if is_number:
            _at(place, lambda: checked_share(value))
            return CerCompares(order, value)
        case "expected_cer", _:
            _refuse(place, f"{_shown(value)} is no number: write a share from 0 to 1")
        case _, int() | float() if is_number:
            _at(place, lambda: checked_number(value))
            return MetadataCompares(key, order, value)
        case _, str():
            day = _day(value)
            if day is not None:
                return MetadataCompares(key, order, day)
    _refuse(place, f'{_shown(value)} has no order: write a number, or a date as "2024-05-01"')


def _moment(value: object, place: str) -> date | datetime:
    """Read a day, or a moment with its time of day (UTC where it has no zone)."""
    if isinstance(value, str):
        if day := _day(value):
            return day
        if _DATE.match(value):
            try:
                return datetime.fromisoformat(value)
            except ValueError:
                pass
    _refuse(place, f'{_shown(value)} is no date: write "2026-01-31" or "2026-01-31T09:00:00+09:00"')


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:  # the 31st of February
        return None


def _group(
    name: str, value: object, place: str, read: Callable[[object, str], Condition]
) -> Condition:
    if not isinstance(value, list) or not value:
        _refuse(place, f'{_shown(value)} is no list of conditions: write {{"{name}": [{{…}}, …]}}')
    parts = [read(item, f"{place}[{number}]") for number, item in enumerate(value)]
    if len(parts) == 1:
        return parts[0]
    return AllOf(tuple(parts)) if name == "all" else AnyOf(tuple(parts))


def _object(value: object, place: str, depth: int, example: str) -> list[tuple[str, object]]:
    """Return the names and values of an object that is one, is not empty, and not too deep."""
    if depth > MAX_DEPTH:
        _refuse(place, f"more than {MAX_DEPTH} objects in one another: write it flatter")
    if not isinstance(value, dict):
        _refuse(place, f"{_shown(value)} is no object: write one {example}")
    if not value:
        _refuse(place, f"an empty object asks for nothing: write something {example}, or leave it")
    return [(str(name), part) for name, part in value.items()]


def _together(parts: list[Condition]) -> Condition:
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _count(condition: Condition) -> int:
    match condition:
        case Not():
            return _count(condition.condition)
        case AllOf() | AnyOf():
            return sum(map(_count, condition.conditions))
    return 1


def _at(place: str, check: Callable[[], T]) -> T:
    """Check a value; the error says where it stands."""
    try:
        return check()
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from error


def _refuse(place: str, message: str) -> NoReturn:
    raise InvalidInput(f"{place}: {message}")


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if len(name) <= SHOWN_CHARS else f"{place}.{name[:SHOWN_CHARS]}…"


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(value: object) -> str:
    """Return a value as JSON, cut."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
