"""One Milvus Lite, and collections on it, for every test of the store but those of the server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.store.milvus import MilvusStore, open_store
from tests.support.store import FINGERPRINT, LIBRARY, a_document, a_row, add, remove, settings_in


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="package")
def milvus(folder: Path) -> Iterator[MilvusStore]:
    """A running server, on which every test but those of the server itself works."""
    with open_store(settings_in(folder)) as opened:
        yield opened


@pytest.fixture(scope="package")
def collection(milvus: MilvusStore) -> MilvusStore:
    milvus.open_collection(FINGERPRINT)
    return milvus


@pytest.fixture
def store(collection: MilvusStore) -> Iterator[MilvusStore]:
    """An empty collection; making a new one takes pymilvus 1.5 s, so it is emptied again."""
    yield collection
    for document in collection.documents():
        remove(collection, document)


@pytest.fixture(scope="package")
def library(milvus: MilvusStore) -> MilvusStore:
    """Documents that differ in what filters ask for; tests only read it."""
    store = milvus.collection("library")
    store.open_collection(FINGERPRINT)
    for number, changes in enumerate(LIBRARY.values()):
        add(store, a_row(a_document(number, **changes), text=f"common word number{number}"))
    return store


@pytest.fixture(scope="package")
def texts(milvus: MilvusStore) -> MilvusStore:
    """One page for each of several texts; tests only read it."""
    store = milvus.collection("texts")
    store.open_collection(FINGERPRINT)
    pages = [
        "内閣府は月例経済報告で景気動向指数を発表した。",
        "この請求書の合計金額は税込み12,000円です。",
        "データベースの設定を変更する方法について説明します。",
        "영수증을 분실하지 않도록 보관하여 주십시오.",
        "본사는 서울특별시 강남구에 위치하고 있습니다.",
        "Replace part TX-4711 of the gearbox.",
    ]
    document = a_document()
    add(store, *(a_row(document, page, text=text) for page, text in enumerate(pages, 1)))
    return store
