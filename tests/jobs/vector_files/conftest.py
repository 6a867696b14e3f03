"""A Milvus Lite with a filled collection, `first`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.settings import Settings
from cluster.store.milvus import MilvusStore, open_store
from tests.support.collections import WORDS, settings_of
from tests.support.store import FINGERPRINT, a_document, a_row, add


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vector-files")


@pytest.fixture(scope="package")
def milvus(folder: Path) -> Iterator[MilvusStore]:
    with open_store(settings_of(folder)) as store:
        yield store


@pytest.fixture(scope="package")
def first(folder: Path, milvus: MilvusStore) -> Settings:
    """Settings of a filled collection, which tests only read."""
    store = milvus.collection("first")
    store.open_collection(FINGERPRINT)
    for number, words in enumerate(WORDS):
        tenant = "acme" if number else ""
        metadata = {"n": number, "share": 0.1}
        document = a_document(number, tenant=tenant, tags=("t",), metadata=metadata, pages=2)
        rows = [
            a_row(document, page, chunk, f"{words} page{page}", degrees=10 * number + page)
            for page in (1, 2)
            for chunk in (0, 1)
        ]
        rows[0].readings.update(expected_cer=0.25, ink_share=0.5)  # the latter in no schema
        add(store, *rows)
    return settings_of(folder, "first")


@pytest.fixture
def second(folder: Path, milvus: MilvusStore) -> Iterator[Settings]:
    """Settings of a collection that is not there yet, and is gone afterwards."""
    yield settings_of(folder, "second")
    for name in {name for name in milvus.client.names() if name.startswith("second")}:
        milvus.client.drop(name)
