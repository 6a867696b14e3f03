"""A small collection for evaluations: three manuals, found by words, with pictures of the pages."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from cluster.pages.files import PageFiles
from cluster.settings import Settings
from cluster.store.milvus import open_store
from tests.support.store import FINGERPRINT, a_document, a_row, add, settings_in

MANUALS = {
    "cranes": ["harbour crane inspection", "crane rope replacement", "crane cabin heating"],
    "pumps": ["copper pump seal", "pump noise and vibration", "pump oil"],
    "ovens": ["oven door hinge", "oven lamp and noise", "oven cleaning"],
}


@pytest.fixture(scope="session")
def manuals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings of a store with MANUALS; its server runs as long as the tests."""
    settings = settings_in(tmp_path_factory.mktemp("evaluation"))
    picture = io.BytesIO()
    Image.new("RGB", (640, 832), "white").save(picture, "JPEG")
    with open_store(settings) as store:
        store.open_collection(FINGERPRINT)
        files = PageFiles.from_settings(settings)
        for number, (name, texts) in enumerate(MANUALS.items()):
            document = a_document(number, source=f"/library/{name}.pdf", pages=len(texts))
            add(store, *(a_row(document, page, text=text) for page, text in enumerate(texts, 1)))
            for page in range(1, len(texts) + 1):
                files.put("", document.doc_id, page, picture.getvalue())
        yield settings


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A file of four questions: the first three are found at rank 1, the last one not at all."""
    file = tmp_path / "questions.jsonl"
    file.write_text(
        '{"id": "rope", "query": "rope", "doc": "cranes.pdf", "pages": [2]}\n'
        '{"id": "seal", "query": "copper seal", "doc": "pumps.pdf", "pages": [1]}\n'
        '{"id": "hinge", "question": "hinge", "relevant": [{"doc": "ovens", "page": 1, "grade": 2},'
        ' {"doc": "ovens", "page": 3, "grade": 0}]}\n'
        '{"id": "lost", "query": "zebra", "doc": "zebras.pdf", "pages": [1]}\n'
    )
    return file
