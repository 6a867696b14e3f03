"""Which pages have multi-vectors as they are wanted now."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.core import Document
from cluster.pages.files import PageFiles
from cluster.pages.vectors import PackedVectors, Storage, Tile, to_bytes
from jobs.ingest.readings import MultiVectors

DOCUMENT = Document("a" * 32, "a" * 64, "/in/report.pdf", pages=3)
NO_STORE: Any = None  # files alone say what is done


@pytest.fixture
def files(tmp_path: Path) -> PageFiles:
    return PageFiles(str(tmp_path), "quire")


def keep(files: PageFiles, reading: MultiVectors, page: int, storage: Storage) -> None:
    tile = Tile(2, 2, (0.0, 0.0, 1.0, 1.0))
    codes = np.zeros((4, 8), np.float16 if storage == "fp16" else np.int8)
    scales = None if storage == "fp16" else np.ones(4, np.float16)
    packed = PackedVectors(storage, 8, (tile,), codes, scales)
    files.put("", DOCUMENT.doc_id, page, to_bytes(packed), kind=reading.kind)


def test_an_interrupted_change_of_precision_goes_on(files: PageFiles) -> None:
    wanted = MultiVectors("x.npz", "int8", tiles=1, token_pooling=1)
    for page, storage in ((1, "int8"), (2, "fp16"), (3, "fp16")):
        keep(files, wanted, page, storage)  # type: ignore[arg-type]
    assert wanted.done(DOCUMENT, NO_STORE, files) == {1}  # it is still being indexed
    for page in (2, 3):
        keep(files, wanted, page, "int8")
    assert wanted.done(DOCUMENT, NO_STORE, files) == {1, 2, 3}


def test_of_an_indexed_document_one_page_tells_for_all(files: PageFiles) -> None:
    wanted = MultiVectors("x.npz", "int8", tiles=1, token_pooling=1)
    indexed = replace(DOCUMENT, status="indexed")
    assert wanted.done(indexed, NO_STORE, files) == set()
    for page in (1, 2, 3):
        keep(files, wanted, page, "int8")
    assert wanted.done(indexed, NO_STORE, files) == {1, 2, 3}
    for changed in (replace(wanted, storage="fp16"), replace(wanted, tiles=4)):
        assert changed.done(indexed, NO_STORE, files) == set()
    assert replace(wanted, kind="another.npz").done(indexed, NO_STORE, files) == set()
