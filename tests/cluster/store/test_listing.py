"""Pages of documents, newest first: as all of them would be sorted, without reading them all."""

import random
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.core import Document, Filter
from cluster.errors import InvalidInput
from cluster.store.listing import MAX_ROWS, MORE_ROWS
from cluster.store.milvus import MilvusStore
from tests.support.store import FINGERPRINT, a_document

pytestmark = pytest.mark.services
DOCUMENTS = MORE_ROWS + 600
EVERYTHING = Filter()


@pytest.fixture(scope="module")
def listed(milvus: MilvusStore) -> Iterator[tuple[MilvusStore, list[Document]]]:
    """A store with many documents, half of which came within a second, and they, newest first."""
    store = milvus.collection("listed")
    store.open_collection(FINGERPRINT)
    rng, now_ms = random.Random(0), int(time.time() * 1000)
    documents = []
    for number in range(DOCUMENTS):
        age_ms = rng.randrange(1000) if number % 2 else rng.randrange(10**11)
        status = "failed" if number % 100 == 0 else "indexed"
        changes = {"time_ms": now_ms - age_ms, "status": status, "tenant": f"t{number % 3}"}
        documents.append(a_document(number, **changes))
    documents[7] = replace(documents[7], title='Straße „Große 100%“ \\ "quoted"')
    store.put_documents(documents)
    documents.sort(key=lambda each: (-each.time_ms, each.tenant and each.doc_id))
    yield store, documents


@pytest.mark.parametrize(("limit", "offset"), [(1, 0), (50, 0), (50, 75), (100, DOCUMENTS - 60)])
def test_a_page_is_that_of_the_whole_list(
    listed: tuple[MilvusStore, list[Document]], limit: int, offset: int
) -> None:
    store, documents = listed
    page, total = store.documents_page(EVERYTHING, limit=limit, offset=offset)
    assert total == DOCUMENTS
    times = [each.time_ms for each in documents]
    assert [each.time_ms for each in page] == times[offset : offset + limit]
    by_id = {each.doc_id: each for each in documents}
    assert all(by_id[each.doc_id] == each for each in page)


def test_pages_do_not_overlap(listed: tuple[MilvusStore, list[Document]]) -> None:
    store, _ = listed
    pages = [store.documents_page(EVERYTHING, limit=40, offset=at)[0] for at in (0, 40, 80)]
    assert len({each.doc_id for page in pages for each in page}) == 120


def test_filters_and_status_count_and_list_alike(
    listed: tuple[MilvusStore, list[Document]],
) -> None:
    store, documents = listed
    wanted = Filter(tenant="t1")
    page, total = store.documents_page(wanted, status="failed", limit=5)
    failed = [each for each in documents if each.tenant == "t1" and each.status == "failed"]
    assert total == len(failed) and [each.time_ms for each in page] == [
        each.time_ms for each in failed[:5]
    ]


@pytest.mark.parametrize(
    "word", ["strasse", "GROSSE 100%", '\\ "quoted"', "straße „große"], ids=str
)
def test_a_part_of_the_title_finds_a_document_in_any_case(
    listed: tuple[MilvusStore, list[Document]], word: str
) -> None:
    page, total = listed[0].documents_page(EVERYTHING, word=word, limit=5)
    assert total == 1 and "quoted" in page[0].title


@pytest.mark.parametrize("word", ['" or doc_id != "', "nothing of the kind"])
def test_other_words_find_nothing(listed: tuple[MilvusStore, list[Document]], word: str) -> None:
    assert listed[0].documents_page(EVERYTHING, word=word, limit=5) == ([], 0)


def test_a_file_name_finds_its_document(listed: tuple[MilvusStore, list[Document]]) -> None:
    page, total = listed[0].documents_page(EVERYTHING, word="/1234.PDF".strip("/"), limit=5)
    assert total == 1 and page[0].source == "/library/1234.pdf"


def test_beyond_what_can_be_turned_to_it_says_what_to_do(
    listed: tuple[MilvusStore, list[Document]],
) -> None:
    with pytest.raises(InvalidInput, match="filter for the others"):
        listed[0].documents_page(EVERYTHING, limit=50, offset=MAX_ROWS)
