"""Collections and the fingerprints that they hold."""

from dataclasses import replace

import pytest

from cluster.errors import FingerprintMismatch
from cluster.store.milvus import MilvusStore
from tests.support.store import FINGERPRINT, a_document, a_row, add


def test_another_fingerprint_is_refused(store: MilvusStore) -> None:
    add(store, a_row(a_document(), text="held"))
    other = replace(FINGERPRINT, model="model-b", precision="bf16")
    with pytest.raises(FingerprintMismatch) as refusal:
        store.open_collection(other)
    assert "model-a" in str(refusal.value) and "model-b" in str(refusal.value)
    store.open_collection(FINGERPRINT)
    assert store.fingerprint() == FINGERPRINT and store.count_pages() > 0


def test_no_collection_is_dropped_without_being_asked_for(store: MilvusStore) -> None:
    """Not even one that is empty, as an ingest leaves it whose model could not be loaded."""
    left = store.collection("never_filled")
    left.open_collection(FINGERPRINT)
    other = replace(FINGERPRINT, model="model-b", dimension=8)
    with pytest.raises(FingerprintMismatch, match="it is empty: `quire collections drop`"):
        left.open_collection(other)
    assert left.fingerprint() == FINGERPRINT


def test_collections_are_listed_with_their_fingerprints(store: MilvusStore) -> None:
    other = replace(FINGERPRINT, dimension=8)
    store.collection("of_another_model").open_collection(other)
    found = store.collections()
    assert found["of_another_model"] == other
    assert found["quire"] == FINGERPRINT
