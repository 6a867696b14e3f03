"""Filters: what they keep, and values that are meant to break out of them."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core import Filter, Mode
from cluster.errors import InvalidInput
from cluster.store.filters import to_expression
from cluster.store.milvus import MilvusStore
from tests.support.store import LIBRARY, a_document, a_row, add, search

HOSTILE = [
    '" or 1==1',
    "]) or (",
    '"]) or array_contains_all(labels, ["',
    "' or tenant like '%",
    "a\x00b",
    "%",
    "\\",
    "\ud800",
    "改行\nと\ttab",
    "x" * 1_000_000,
]


def moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


LATE = moment(1_900_000_000_000)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Filter(), set(LIBRARY)),
        (Filter(tenant="acme"), {"acme", "late"}),
        (Filter(tenant=""), {"plain"}),
        (Filter(tags=("invoice",)), {"acme", "beta", "late"}),
        (Filter(tags=("invoice", "2024")), {"acme"}),
        (Filter(metadata={"number": 1}), {"acme"}),
        (Filter(metadata={"number": 1.0}), {"acme"}),
        (Filter(metadata={"number": 2}), set()),
        (Filter(metadata={"number": "1"}), {"beta"}),
        (Filter(metadata={"number": True}), {"gamma"}),
        (Filter(metadata={"number": True, "by": "Ann"}), {"gamma"}),
        (Filter(metadata={"number": 1, "by": "Ann"}), set()),
        (Filter(doc_ids=(a_document(1).doc_id, a_document(3).doc_id)), {"acme", "gamma"}),
        (Filter(after=LATE), {"late"}),
        (Filter(before=LATE), set(LIBRARY) - {"late"}),
        (Filter(before=LATE - timedelta(days=20_000)), set()),
        (Filter(after=datetime.min.replace(tzinfo=UTC)), set(LIBRARY)),
        (Filter(before=datetime.max.replace(tzinfo=UTC)), set(LIBRARY)),
        (Filter(tenant="acme", tags=("invoice",), before=LATE), {"acme"}),
        (Filter(tenant="beta", metadata={"number": 1}), set()),
        (
            Filter(
                tenant="acme",
                tags=("invoice",),
                doc_ids=(a_document(4).doc_id,),
                after=LATE - timedelta(seconds=1),
                before=LATE + timedelta(seconds=1),
            ),
            {"late"},
        ),
    ],
)
@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
def test_filters(mode: Mode, wanted: Filter, names: set[str], library: MilvusStore) -> None:
    ids = {a_document(number).doc_id: name for number, name in enumerate(LIBRARY)}
    found = search(library, "common", mode, wanted=wanted)
    assert {ids[hit.doc_id] for hit in found} == names
    assert {ids[document.doc_id] for document in library.documents(wanted)} == names
    assert library.count_pages(wanted) == len(names)


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value[:20]))
@pytest.mark.parametrize("field", ["tenant", "tags", "metadata key", "metadata value", "doc_ids"])
def test_hostile_values_find_nothing(field: str, value: str, library: MilvusStore) -> None:
    wanted = {
        "tenant": Filter(tenant=value),
        "tags": Filter(tags=(value,)),
        "metadata key": Filter(metadata={value: 1}),
        "metadata value": Filter(metadata={"number": value}),
        "doc_ids": Filter(doc_ids=(value,)),
    }[field]
    if field in ("doc_ids", "metadata key"):
        with pytest.raises(InvalidInput):
            search(library, wanted=wanted)
    else:
        assert search(library, wanted=wanted) == []
        assert library.documents(wanted) == []


def test_very_many_values_find_nothing(library: MilvusStore) -> None:
    tags = tuple(f"tag {number}" for number in range(3_000))
    assert search(library, wanted=Filter(tags=tags)) == []


_IDS = r'\["[0-9a-f]+"(, "[0-9a-f]+")*\]'
_NUMBER = r"-?\d+(\.\d+)?(e[+-]\d+)?"
_EQUAL = rf'\(*metadata\["[A-Za-z_][A-Za-z0-9_.-]*"\] == {_NUMBER}\)*'
_CLAUSE = rf"(array_contains_all\(labels, {_IDS}\)|{_EQUAL}|doc_id in {_IDS}|time_ms (>=|<) -?\d+)"
_EXPRESSION = re.compile(rf"({_CLAUSE}( and {_CLAUSE})*)?")
_MOMENTS = st.none() | st.datetimes(timezones=st.just(UTC))
_LARGEST = 2**63 - 1
_SCALARS = (
    st.text() | st.integers(-_LARGEST, _LARGEST) | st.floats(-(2.0**62), 2.0**62) | st.booleans()
)
_KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,9}", fullmatch=True)


@given(
    st.builds(
        Filter,
        tenant=st.none() | st.text(),
        tags=st.lists(st.text(), max_size=3).map(tuple),
        doc_ids=st.lists(st.text("0123456789abcdef", min_size=32, max_size=32)).map(tuple),
        metadata=st.dictionaries(_KEYS, _SCALARS, max_size=3),
        after=_MOMENTS,
        before=_MOMENTS,
    )
)
@settings(deadline=None, max_examples=60)
def test_expressions_hold_digests_and_numbers_only(wanted: Filter) -> None:
    assert _EXPRESSION.fullmatch(to_expression(wanted))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 2**63, 10**400])
def test_numbers_that_no_document_can_have_are_refused(value: float) -> None:
    with pytest.raises(InvalidInput, match="a number that can be stored"):
        to_expression(Filter(metadata={"number": value}))


@given(st.text())
@settings(deadline=None, max_examples=60)
def test_document_ids_are_checked(doc_id: str) -> None:
    with pytest.raises(InvalidInput):
        to_expression(Filter(doc_ids=(doc_id,)))


def test_expected_cer_is_a_filter_that_unknown_pages_do_not_pass(store: MilvusStore) -> None:
    document = a_document()
    cers = {1: None, 2: 0.0, 3: 0.25, 4: 1.0}
    add(
        store,
        *(
            replace(a_row(document, page), readings={} if cer is None else {"expected_cer": cer})
            for page, cer in cers.items()
        ),
    )
    assert store.readings(document, ["expected_cer"]) == {
        2: {"expected_cer": 0.0},
        3: {"expected_cer": 0.25},
        4: {"expected_cer": 1.0},
    }
    assert store.pages_present(document) == {1, 2, 3, 4}
    for wanted, pages in (
        (Filter(), {1, 2, 3, 4}),
        (Filter(max_cer=0.25), {2, 3}),
        (Filter(min_cer=0.25), {3, 4}),
        (Filter(min_cer=0.0), {2, 3, 4}),
        (Filter(min_cer=0.1, max_cer=0.3), {3}),
    ):
        found = search(store, wanted=wanted)
        assert {hit.page for hit in found} == pages
        assert all(hit.expected_cer == cers[hit.page] for hit in found)
    for wrong in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="a share from 0 to 1"):
            search(store, wanted=Filter(max_cer=wrong))
