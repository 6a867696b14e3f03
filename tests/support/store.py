"""A small store: its fingerprint, documents and rows, and short ways to write and search."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from cluster.core import Document, Filter, Fingerprint, Hit, Mode, Row
from cluster.ids import doc_id_of
from cluster.settings import Settings, load_settings
from cluster.store.deletion import begin_deletion, end_deletion
from cluster.store.milvus import MilvusStore

DIMENSION = 4
FINGERPRINT = Fingerprint(
    model="model-a",
    revision="0123456789abcdef",
    precision="fp32",
    pooling="last",
    dimension=DIMENSION,
    max_pixels=65_536,
    instruction='Represent the "input".',
    page_input="image",
)


def settings_in(folder: Path) -> Settings:
    return load_settings(store=str(folder))


LIBRARY: dict[str, dict[str, Any]] = {
    "plain": {},
    "acme": {"tenant": "acme", "tags": ("invoice", "2024"), "metadata": {"number": 1}},
    "beta": {"tenant": "beta", "tags": ("invoice",), "metadata": {"number": "1"}},
    "gamma": {"tenant": "beta", "tags": ("receipt",), "metadata": {"number": True, "by": "Ann"}},
    "late": {"tenant": "acme", "tags": ("invoice",), "time_ms": 1_900_000_000_000},
}


def a_document(number: int = 0, **changes: Any) -> Document:
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    document = Document(
        doc_id=doc_id_of(sha256),
        sha256=sha256,
        source=f"/library/{number}.pdf",
        title=f"Document {number}",
        pages=1,
        status="indexed",
        fingerprint=FINGERPRINT.to_json(),
        time_ms=1_700_000_000_000 + number,
    )
    return replace(document, **changes)


def direction(degrees: float) -> np.ndarray:
    """A unit vector, float32[4]; its cosine to direction(0) is cos(degrees)."""
    radians = np.radians(degrees)
    return np.array([np.cos(radians), np.sin(radians), 0, 0], dtype=np.float32)


def a_row(
    document: Document, page: int = 1, chunk: int = 0, text: str = "", degrees: float = 0
) -> Row:
    return Row(document, page, chunk, text, direction(degrees), 640, 832)


def add(store: MilvusStore, *rows: Row) -> None:
    """Write rows and the documents they are of."""
    for document in {
        row.document.tenant + row.document.doc_id: row.document for row in rows
    }.values():
        store.put_document(document)
    store.write_rows(rows)


def remove(store: MilvusStore, document: Document) -> int:
    """Remove a document's rows and the document; returns how many rows went."""
    begin_deletion(store, document)
    rows = store.forget_pages(document)
    end_deletion(store, document)
    return rows


def search(store: MilvusStore, text: str = "", mode: Mode = "dense", **options: Any) -> list[Hit]:
    wanted = options.pop("wanted", Filter())
    top_k = options.pop("top_k", 10)
    vector = None if mode == "text" else direction(0).tolist()
    return store.search(vector=vector, text=text, wanted=wanted, mode=mode, top_k=top_k, **options)


def servers_of(folder: Path) -> list[psutil.Process]:
    """The Milvus Lite servers whose data lies in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if len(line) > 1 and Path(line[0]).name == "milvus" and line[1].startswith(str(folder)):
            found.append(process)
    return found
