"""What the reranker is given of each candidate, and what is asked of the store for it."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from cluster.core import Hit, Query
from cluster.pages.files import PageFiles, PageKey
from cluster.settings import load_settings
from cluster.store.milvus import MilvusStore
from models.inputs import MultimodalInput
from models.registry import ModelSpec, registry
from models.retrieval.retriever import Retriever, SecondStage

QWEN = registry.find_spec("qwen3-vl-reranker-2b", "reranker")
DOC_ID = "0" * 32


class Store:
    """Finds pages 1 to 5; notes of which it is asked for the texts."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def search(self, **_: object) -> list[Hit]:
        return [
            Hit(DOC_ID, page, "", "a.pdf", "", tenant="alice", tags=(), metadata={})
            for page in range(1, 6)
        ]

    def page_texts(self, hits: Sequence[Hit]) -> list[str]:
        self.asked.append([hit.page for hit in hits])
        return [f"text of page {hit.page}" for hit in hits]


@pytest.fixture
def files(tmp_path: Path) -> PageFiles:
    return PageFiles(str(tmp_path), "pages")


def candidates(store: Store, spec: ModelSpec, files: PageFiles) -> list[MultimodalInput]:
    """What the reranker gets of the pages that are found."""
    given: list[MultimodalInput] = []

    async def score(query: MultimodalInput, pages: Sequence[MultimodalInput]) -> np.ndarray:
        given.extend(pages)
        return np.arange(len(pages), dtype=np.float32)

    second = SecondStage(spec, score, files)
    retriever = Retriever(lambda: cast(MilvusStore, store), None, second)
    settings = load_settings(mode="text", rerank="cross-encoder")
    found = asyncio.run(retriever.search(Query("bridges"), settings))
    assert [hit.page for hit in found.hits] == [5, 4, 3, 2, 1]
    return given


def keep(files: PageFiles, pages: Sequence[int]) -> None:
    files.put_all({(PageKey("alice", DOC_ID, page), "jpg"): b"%d" % page for page in pages})


def test_a_model_that_reads_pictures_alone_costs_no_question_for_texts(files: PageFiles) -> None:
    keep(files, range(1, 6))
    store = Store()
    pages = candidates(store, QWEN, files)
    assert [page.images for page in pages] == [(b"%d" % page,) for page in range(1, 6)]
    assert {page.text for page in pages} == {""} and store.asked == []


def test_a_page_without_its_picture_is_read_as_text(files: PageFiles) -> None:
    keep(files, (1, 3, 5))
    store = Store()
    pages = candidates(store, QWEN, files)
    assert store.asked == [[2, 4]]
    assert [page.text for page in pages] == ["", "text of page 2", "", "text of page 4", ""]
    assert [len(page.images) for page in pages] == [1, 0, 1, 0, 1]


def test_a_model_that_reads_texts_gets_all_of_them(files: PageFiles) -> None:
    keep(files, (1, 3, 5))
    store = Store()
    pages = candidates(store, replace(QWEN, page_chars=6), files)
    assert store.asked == [[1, 2, 3, 4, 5]]
    assert {page.text for page in pages} == {"text o"}
    assert [len(page.images) for page in pages] == [1, 0, 1, 0, 1]


def test_pictures_are_read_side_by_side(files: PageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(files, range(1, 6))
    together = threading.Barrier(5, timeout=10)  # broken where one is read after the other
    read = PageFiles.get

    def get(self: PageFiles, *key: object, **kind: object) -> bytes:
        together.wait()
        return read(self, *key, **kind)  # type: ignore[arg-type]

    monkeypatch.setattr(PageFiles, "get", get)
    assert len(candidates(Store(), QWEN, files)) == 5
