"""How many calls of Milvus a search waits for, one after the other: 0.3 s each on a server."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.milvus_proxy import MilvusProxy, milvus_proxy, trips_in_sequence
from cluster.core import Filter, Mode
from cluster.store.client import StoreAddress
from cluster.store.milvus import MilvusStore
from tests.support.store import FINGERPRINT, a_document, a_row, add, search

pytestmark = pytest.mark.services
LATENCY_S = 0.05


@pytest.fixture(scope="module")
def behind(milvus: MilvusStore) -> Iterator[tuple[MilvusProxy, MilvusStore]]:
    """A store behind a proxy, and the proxy."""
    with milvus_proxy(milvus.address.uri) as (proxy, uri):
        store = MilvusStore(StoreAddress(uri, "behind"))
        store.open_collection(FINGERPRINT)
        documents = [a_document(number, tenant="acme") for number in range(3)]
        add(store, *(a_row(document, text="a gearbox of steel") for document in documents))
        add(store, a_row(documents[0], 1, 1, "steel gearboxes"))
        proxy.latency_s = LATENCY_S
        yield proxy, store
        proxy.latency_s = 0.0
        store.close()


@pytest.mark.parametrize("mode", ["hybrid", "dense", "text"])
@pytest.mark.parametrize("tenant", [None, "acme"])
def test_a_search_waits_for_two_calls_at_most(
    behind: tuple[MilvusProxy, MilvusStore], mode: Mode, tenant: str | None
) -> None:
    proxy, store = behind
    search(store, "gearbox", mode)  # from here on the collection is known
    with proxy.watched() as calls:
        hits = search(store, "gearbox", mode, wanted=Filter(tenant=tenant))
    assert len(hits) == 3
    assert trips_in_sequence(calls) == 2
    assert [call.method for call in calls].count("Query") <= 2  # of pages, and of chunks


def test_with_texts_for_a_reranker_it_waits_for_three(
    behind: tuple[MilvusProxy, MilvusStore],
) -> None:
    proxy, store = behind
    search(store, "gearbox", "hybrid")
    with proxy.watched() as calls:
        assert store.page_texts(search(store, "gearbox", "hybrid")) == ["a gearbox of steel"] * 3
    assert trips_in_sequence(calls) == 3


def test_all_rankings_of_a_hybrid_search_are_asked_for_at_once(
    behind: tuple[MilvusProxy, MilvusStore],
) -> None:
    proxy, store = behind
    with proxy.watched() as calls:
        search(store, "gearbox", "hybrid")
    rankings = [call for call in calls if call.method == "Search"]
    assert len(rankings) == 4  # pictures, vectors of chunks, text of pages, text of chunks
    assert max(call.began for call in rankings) < min(call.ended for call in rankings)


def test_a_collection_that_was_dropped_meanwhile_is_looked_for_again(milvus: MilvusStore) -> None:
    store = milvus.collection("brief")
    store.open_collection(FINGERPRINT)
    add(store, a_row(a_document(), text="a gearbox"))
    assert len(search(store, "gearbox", "text")) == 1
    stored = store.required()
    for name in (*stored.tables, stored.documents):
        store.client.drop(name)
    assert search(store, "gearbox", "text") == [] and store.documents() == []
    store.open_collection(replace(FINGERPRINT, model="another"))
    assert store.documents() == []
