"""The language of filters: what each condition keeps, and what is refused, and where."""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core import Document, Filter, Hit, Mode, Readings
from cluster.errors import InvalidInput
from cluster.store.filter_language import MAX_CONDITIONS, MAX_DEPTH, parse_filter
from cluster.store.filters import to_expression
from cluster.store.milvus import MilvusStore
from tests.support.store import FINGERPRINT, a_document, a_row, add, search

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def at(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


SHELF: dict[str, dict[str, Any]] = {
    "bare": {},
    "old": {"metadata": {"year": 2019, "city": "Kyoto", "paid": False}, "tags": ("invoice",)},
    "float": {"metadata": {"year": 2020.0, "city": "Osaka"}, "tags": ("invoice", "2024")},
    "half": {"metadata": {"year": 2020.5, "paid": True}, "tags": ("letter",)},
    "text": {"metadata": {"year": "2020", "city": "Kyoto"}},
    "true": {"metadata": {"year": True, "one": 1}},
    "large": {"metadata": {"year": 2**53 + 1, "size": -3.5e-7}},
    "may": {"metadata": {"date": "2024-05-01"}},
    "noon": {"metadata": {"date": "2024-05-01T12:00:00Z", "a.b-c_d": 7}},
    "june": {"metadata": {"date": "2024-06-01", "tag": "reserved"}},
    "words": {"metadata": {"date": "35 Main Street"}},
    "last": {"metadata": {"date": "9999-12-31"}},
    "newyear": {"time_ms": at(NEW_YEAR)},
    "evening": {"time_ms": at(NEW_YEAR + timedelta(hours=23))},
    "next": {"time_ms": at(NEW_YEAR + timedelta(days=1)), "tags": ("letter", "2024")},
}
IDS = {name: a_document(number).doc_id for number, name in enumerate(SHELF)}
EVERYTHING = set(SHELF)


@pytest.fixture(scope="module")
def shelf(milvus: MilvusStore) -> MilvusStore:
    """Documents that differ in what filters ask for; each is there for two tenants."""
    store = milvus.collection("shelf")
    store.open_collection(FINGERPRINT)
    for tenant in ("mine", "theirs"):
        for number, changes in enumerate(SHELF.values()):
            add(store, a_row(a_document(number, tenant=tenant, **changes), text="common"))
    return store


def names(documents: Iterable[Document | Hit]) -> set[str]:
    by_id = {doc_id: name for name, doc_id in IDS.items()}
    return {by_id[document.doc_id] for document in documents}


def kept(store: MilvusStore, source: Any) -> set[str]:
    """The documents of my tenant that a filter keeps; checks that nobody else's come along."""
    wanted = Filter(tenant="mine", condition=parse_filter(source))
    documents = store.documents(wanted)
    assert {document.tenant for document in documents} <= {"mine"}
    assert store.count_pages(wanted) == len(documents)
    return names(documents)


KEPT: list[tuple[dict[str, Any], set[str]]] = [
    ({}, EVERYTHING),
    ({"year": 2020}, {"float"}),
    ({"year": 2020.0}, {"float"}),
    ({"year": "2020"}, {"text"}),
    ({"year": True}, {"true"}),
    ({"year": 1}, set()),
    ({"one": 1.0}, {"true"}),
    ({"paid": False}, {"old"}),
    ({"year": 2**53 + 1}, {"large"}),
    ({"year": 2**53}, set()),
    ({"size": -3.5e-7}, {"large"}),
    ({"size": {"lt": 0, "gte": -4e-7}}, {"large"}),
    ({"year": {"gte": 2020}}, {"float", "half", "large"}),
    ({"year": {"gt": 2020}}, {"half", "large"}),
    ({"year": {"gte": 2020, "lt": 2024}}, {"float", "half"}),
    ({"year": {"lte": 2020}}, {"old", "float"}),
    ({"year": {"not": {"gte": 2020, "lt": 2024}}}, {"old", "large"}),
    ({"year": {"any": [2019, 2020.5, "2020", True]}}, {"old", "half", "text", "true"}),
    ({"year": {"not": 2020}}, EVERYTHING - {"float"}),
    ({"year": {"not": {"any": [2019, "2020"]}}}, EVERYTHING - {"old", "text"}),
    ({"city": {"any": ["Kyoto", "Osaka"]}}, {"old", "float", "text"}),
    ({"city": {"not": "Kyoto"}}, EVERYTHING - {"old", "text"}),
    ({"city": "Kyoto", "year": {"gte": 2000}}, {"old"}),
    ({"tag": "invoice"}, {"old", "float"}),
    ({"tag": {"all": ["invoice", "2024"]}}, {"float"}),
    ({"tag": {"any": ["letter", "2024"]}}, {"float", "half", "next"}),
    ({"not": {"tag": "invoice"}}, EVERYTHING - {"old", "float"}),
    (
        {"not": {"any": [{"tag": "invoice"}, {"tag": "letter"}]}},
        EVERYTHING - {"old", "float", "half", "next"},
    ),
    ({"not": {"not": {"tag": "letter"}}}, {"half", "next"}),
    ({"all": [{"tag": "invoice"}, {"not": {"city": "Osaka"}}]}, {"old"}),
    ({"any": [{"tag": "letter"}, {"paid": False}]}, {"half", "next", "old"}),
    ({"document": IDS["may"]}, {"may"}),
    ({"document": {"any": [IDS["may"], IDS["old"]]}}, {"may", "old"}),
    ({"document": {"not": IDS["may"]}}, EVERYTHING - {"may"}),
    ({"any": [{"document": IDS["may"]}, {"tag": "letter"}]}, {"may", "half", "next"}),
    ({"date": "2024-05-01"}, {"may"}),
    ({"date": {"gte": "2024-05-01"}}, {"may", "noon", "june", "last"}),
    ({"date": {"gt": "2024-05-01"}}, {"june", "last"}),
    ({"date": {"lte": "2024-05-01"}}, {"may", "noon"}),
    ({"date": {"lt": "2024-05-01"}}, set()),
    ({"date": {"gte": "2024-05-01", "lt": "2024-06-01"}}, {"may", "noon"}),
    ({"date": {"not": {"gte": "2024-05-01", "lt": "2024-06-01"}}}, {"june", "last"}),
    ({"date": {"lte": "9999-12-31"}}, {"may", "noon", "june", "last"}),
    ({"date": {"gt": "9999-12-31"}}, set()),
    ({"ingested": "2026-01-01"}, {"newyear", "evening"}),
    ({"ingested": {"gte": "2026-01-01"}}, {"newyear", "evening", "next"}),
    ({"ingested": {"gt": "2026-01-01"}}, {"next"}),
    ({"ingested": {"lte": "2026-01-01"}}, EVERYTHING - {"next"}),
    ({"ingested": {"lt": "2026-01-01"}}, EVERYTHING - {"next", "newyear", "evening"}),
    ({"ingested": {"gte": "2026-01-02T00:00:00+09:00"}}, {"evening", "next"}),
    ({"ingested": {"not": "2026-01-01"}}, EVERYTHING - {"newyear", "evening"}),
    ({"ingested": {"gte": "0001-01-01", "lte": "9999-12-31"}}, EVERYTHING),
    ({"metadata": {"tag": "reserved"}}, {"june"}),
    (
        {"metadata": {"tag": {"not": "reserved"}, "date": {"gte": "2024-05-01"}}},
        {"may", "noon", "last"},
    ),
    ({"a.b-c_d": {"gte": 7}}, {"noon"}),
    ({"nobody": "has"}, set()),
    ({"nobody": {"not": "has"}}, EVERYTHING),
]


@pytest.mark.parametrize(
    ("source", "expected"), KEPT, ids=lambda value: json.dumps(value, default=sorted)[:60]
)
def test_what_a_filter_keeps(
    source: dict[str, Any], expected: set[str], shelf: MilvusStore
) -> None:
    assert kept(shelf, source) == expected
    assert kept(shelf, json.dumps(source)) == expected


@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
def test_searches_see_what_a_filter_keeps(mode: Mode, shelf: MilvusStore) -> None:
    for source, expected in KEPT[::4]:
        wanted = Filter(tenant="mine", condition=parse_filter(source))
        hits = search(shelf, "common", mode, wanted=wanted, top_k=50)
        assert {hit.tenant for hit in hits} <= {"mine"}
        assert names(hits) == expected, source


def a_tree(random: Random, depth: int) -> tuple[dict[str, Any], set[str]]:
    """A random filter over the conditions above, and what it keeps by the rules of sets."""
    if depth == 0:
        source, expected = random.choice(EXACT)
        return source, expected
    word = random.choice(["all", "any", "not"])
    parts = [a_tree(random, depth - 1) for _ in range(1 if word == "not" else random.randint(1, 3))]
    sources, sets = [source for source, _ in parts], [expected for _, expected in parts]
    if word == "not":
        return {"not": sources[0]}, EVERYTHING - sets[0]
    join = set.intersection if word == "all" else set.union
    return {word: sources}, join(*sets)


def has_range(source: Any) -> bool:
    if isinstance(source, dict):
        return bool({"gt", "gte", "lt", "lte"} & set(source)) or any(
            map(has_range, source.values())
        )
    return isinstance(source, list) and any(map(has_range, source))


# A range and its opposite leave out what has no value of that kind; all else obeys De Morgan.
EXACT = [pair for pair in KEPT if pair[0] and not has_range(pair[0])]


def test_conditions_combine_as_sets_do(shelf: MilvusStore) -> None:
    random = Random(7)
    for _ in range(60):
        source, expected = a_tree(random, random.randint(1, 3))
        assert kept(shelf, source) == expected, source


def test_no_filter_leaves_its_tenant(shelf: MilvusStore) -> None:
    for source in (
        {"not": {"tag": "no such tag"}},
        {"any": [{"not": {"year": 1}}, {"year": 1}]},
        {
            "any": [
                {"ingested": {"gte": "0001-01-01"}},
                {"not": {"ingested": {"gte": "0001-01-01"}}},
            ]
        },
        {"any": [{"metadata": {"tenant": "theirs"}}, {"not": {"metadata": {"tenant": "theirs"}}}]},
        {"not": {"not": {"not": {"city": "nowhere"}}}},
    ):
        assert kept(shelf, source) == EVERYTHING  # of mine: `kept` looks at the tenants
    alone = Filter(tenant="nobody", condition=parse_filter({"not": {"tag": "x"}}))
    assert shelf.documents(alone) == [] and search(shelf, wanted=alone) == []


def test_the_other_fields_of_a_filter_hold_as_well(shelf: MilvusStore) -> None:
    condition = parse_filter({"any": [{"year": {"gte": 2020}}, {"tag": "letter"}]})
    for fields, expected in (
        ({"tags": ("invoice",)}, {"float"}),
        ({"metadata": {"paid": True}}, {"half"}),
        ({"doc_ids": (IDS["next"],)}, {"next"}),
        ({"after": NEW_YEAR}, {"next"}),
    ):
        wanted = Filter(tenant="mine", condition=condition, **fields)
        assert names(shelf.documents(wanted)) == expected


def test_the_deepest_and_widest_filters_are_answered(shelf: MilvusStore) -> None:
    wide = {"any": [{"not": {"nobody": number}} for number in range(MAX_CONDITIONS)]}
    assert kept(shelf, wide) == EVERYTHING
    texts = {
        "city": {"any": ["Kyoto", *(f"city {number}" for number in range(MAX_CONDITIONS - 1))]}
    }
    assert kept(shelf, texts) == {"old", "text"}
    deep: dict[str, Any] = {"not": {"tag": "no such tag"}}
    for level in range(MAX_DEPTH - 2):
        word = ("all", "any")[level % 2]
        other = {"year": {"gte": 3000}} if word == "any" else {"year": {"not": 3000}}
        deep = {word: [*(dict(other) for _ in range(13)), deep]}
    assert kept(shelf, deep) == EVERYTHING


def test_pages_are_kept_by_expected_cer_and_documents_are_not(store: MilvusStore) -> None:
    cers = {1: None, 2: 0.0, 3: 0.25, 4: 1.0}
    for page, cer in cers.items():
        readings: Readings = {} if cer is None else {"expected_cer": cer}
        add(store, replace(a_row(a_document(), page), readings=readings))
    for source, pages in (
        ({"expected_cer": {"lte": 0.25}}, {2, 3}),
        ({"expected_cer": {"gt": 0.25}}, {4}),
        ({"expected_cer": {"gte": 0, "lt": 1}}, {2, 3}),
        ({"not": {"expected_cer": {"lte": 0.25}}}, {4}),
    ):
        wanted = Filter(condition=parse_filter(source))
        assert {hit.page for hit in search(store, wanted=wanted)} == pages
        with pytest.raises(InvalidInput, match="documents have none"):
            store.documents(wanted)


DEEP: Any = {"tag": "x"}
for _ in range(MAX_DEPTH):
    DEEP = {"not": DEEP}
REFUSED = [
    ("nonsense", "filter: not JSON"),
    ("[" * 100_000, "filter: not JSON"),
    ("9" * 5_000, "filter: not JSON"),
    ([], "filter: a list is no object"),
    (None, "filter: null is no object"),
    ({"year": {}}, "filter.year: an empty object"),
    ({"any": []}, "filter.any: a list is no list of conditions"),
    ({"any": {"year": 1}}, "filter.any: an object is no list"),
    ({"any": [{"year": 1}, 5]}, r"filter.any\[1\]: 5 is no object"),
    ({"not": {}}, "filter.not: an empty object"),
    ({"year": None}, "filter.year: null is no value"),
    ({"year": [1, 2]}, r'filter.year: write \{"any"'),
    ({"year": {"ge": 1}}, "filter.year.ge: there is no such test: write one of"),
    ({"year": {"gte": "soon"}}, 'filter.year.gte: "soon" has no order'),
    ({"year": {"gte": True}}, "filter.year.gte: true has no order"),
    ({"year": {"gte": None}}, "filter.year.gte: null has no order"),
    ({"date": {"gte": "2024-02-31"}}, "has no order"),
    ({"date": {"gte": "2024-05-01T10:00:00Z"}}, "has no order"),
    ({"year": float("nan")}, "filter.year: write a number that can be stored"),
    ({"year": {"lt": float("inf")}}, "filter.year.lt: write a number that can be stored"),
    ('{"year": NaN}', "filter.year: write a number that can be stored"),
    ('{"year": {"gte": 1e400}}', "filter.year.gte: write a number that can be stored"),
    ('{"year": {"gte": -Infinity}}', "filter.year.gte: write a number"),
    ({"year": 2**63}, "filter.year: write a number that can be stored"),
    ({"year": 10**4000}, "filter.year: write a number that can be stored"),
    ('{"year": 1, "year": 2}', 'filter: "year" stands twice'),
    ({'a"] == 1 or metadata["b': 1}, "metadata key .*: use letters"),
    ({"metadata": {"a b": 1}}, "filter.metadata.a b: metadata key 'a b': use letters"),
    ({"": 1}, "metadata key '': use letters"),
    ({"x" * 1_000: 1}, "use letters"),
    ({"tag": 5}, "filter.tag: a tag is a text"),
    ({"tag": ""}, "filter.tag: a tag is a text"),
    ({"tag": {"gte": "a"}}, "filter.tag.gte: a tag has no order"),
    ({"document": "abc"}, "filter.document: 'abc' is not a document id"),
    ({"document": '" or 1==1'}, "is not a document id"),
    ({"ingested": "yesterday"}, 'filter.ingested: "yesterday" is no date'),
    ({"ingested": {"gte": 2024}}, "filter.ingested.gte: 2024 is no date"),
    ({"ingested": {"gte": "2024-01-01T99:00"}}, "is no date"),
    ({"expected_cer": 0.1}, "filter.expected_cer: write a range of it"),
    ({"expected_cer": {"lte": 2}}, "filter.expected_cer.lte: an expected CER is a share"),
    ({"expected_cer": {"lte": "x"}}, "is no number"),
    (DEEP, f"more than {MAX_DEPTH} objects in one another"),
    ({"year": {"any": list(range(MAX_CONDITIONS + 1))}}, f"more than {MAX_CONDITIONS} conditions"),
]


@pytest.mark.parametrize(("source", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused_and_where(source: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_filter(source)
    assert len(str(caught.value)) < 300


HOSTILE = [
    '" or 1==1',
    '"]) or (',
    "' or tenant like '%",
    "a\x00b",
    "\\",
    "\ud800",
    "改行\n",
    "x" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_hostile_texts_find_nothing(text: str, shelf: MilvusStore) -> None:
    sources: list[dict[str, Any]] = [{"city": text}, {"tag": text}, {"city": {"any": [text, text]}}]
    for source in sources:
        assert kept(shelf, source) == set()
        assert kept(shelf, {"not": source}) == EVERYTHING
    for wrong in ({"city": {"gte": text}}, {"ingested": text}, {text: {"gte": 1}}):
        with pytest.raises(InvalidInput):
            parse_filter(wrong)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(sorted(IDS)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["all", "any", "not", "metadata", "tag", "year", "gte", "ingested"])
            | st.text(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)
_LIST = r'\[("[0-9a-f]+"(, )?)+\]'
_NAME = r'metadata\["[A-Za-z_][A-Za-z0-9_.-]*"\]'
_ATOM = re.compile(
    rf"array_contains_any\(labels, {_LIST}\)|labels\[\d+\] not in {_LIST}|doc_id (not )?in {_LIST}"
    rf"|time_ms (<|>=|<=|>) -?\d+|{_NAME} (==|!=|<|<=|>|>=) -?\d+(\.\d+)?(e[+-]\d+)?"
    rf'|{_NAME} like "____-__-__%"|{_NAME} (<|>=) "[0-9:-]+"'
)


@given(JSON_VALUES)
@settings(deadline=None, max_examples=300)
def test_whatever_is_asked_only_literals_come_out(source: Any) -> None:
    try:
        condition = parse_filter(source)
    except InvalidInput:
        return
    expression = to_expression(Filter(condition=condition))
    assert re.fullmatch(r"[() ]*((and|or)[() ]*)*", _ATOM.sub("", expression)), expression
