"""A store with two tenants' documents, their page files and an upload, without a model."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.core import Document, Hit
from cluster.ids import doc_id_of, mark
from cluster.pages.files import PageFiles
from cluster.settings import Settings, load_settings
from cluster.store.client import Entity
from cluster.store.deletion import mark_tenant
from cluster.store.format import find_collection
from cluster.store.milvus import MilvusStore
from jobs.uploads import Uploads
from tests.support.store import FINGERPRINT, a_document, a_row, add, search

WORDS = ("harbour crane", "copper pipe", "gearbox oil")
UPLOAD = b"%PDF- made up"


def settings_of(store: Path, collection: str = "quire", **more: Any) -> Settings:
    return load_settings(store=str(store), collection=collection, **more)


def fill(store: MilvusStore, settings: Settings) -> list[Document]:
    """Three documents of two pages with chunks, one of them uploaded; a forgotten tenant's mark."""
    store.open_collection(FINGERPRINT)
    pages, uploads = PageFiles.from_settings(settings), Uploads.from_settings(settings)
    documents = []
    for number, words in enumerate(WORDS):
        tenant = "acme" if number else ""
        document = a_document(
            number, tenant=tenant, tags=("t",), metadata={"n": number, "ü": 0.1}, pages=2
        )
        document = replace(document, marks=(mark("ingest", "first"),))
        if number == 1:
            digest = hashlib.sha256(UPLOAD).hexdigest()
            source = uploads.put(tenant, "報告.pdf", io.BytesIO(UPLOAD))
            document = replace(document, doc_id=doc_id_of(digest), sha256=digest, source=source)
        rows = [
            a_row(document, page, chunk, f"{words} page{page}", degrees=10 * number + page)
            for page in (1, 2)
            for chunk in (0, 1)
        ]
        rows[0].readings["expected_cer"] = 0.25
        rows[0].readings["ink_share"] = 0.5  # a field that no schema names
        add(store, *rows)
        for page in (1, 2):
            pages.put(tenant, document.doc_id, page, f"{words}{page}".encode())
        documents.append(document)
    mark_tenant(store, "gone")
    return documents


def rows_in(store: MilvusStore) -> tuple[list[Entity], list[Entity]]:
    """All rows of documents, and of pages and chunks, with vectors and dynamic fields, sorted."""
    stored = find_collection(store.client, store.name)
    assert stored is not None

    def all_of(name: str, key: str) -> list[Entity]:
        batches = store.client.whole_rows(name, "")
        rows = [row | {"labels": sorted(row["labels"])} for batch in batches for row in batch]
        return sorted(rows, key=lambda row: str(row[key]))

    rows = [row for name in stored.tables for row in all_of(name, "row_id")]
    return all_of(stored.documents, "doc_key"), rows


def hits_in(store: MilvusStore) -> list[Hit]:
    """What three searches find."""
    return [hit for words in WORDS for hit in search(store, words, "hybrid")]


def without_text_scores(hits: list[Hit]) -> list[Hit]:
    """Hits of an older collection, whose chunks counted among the pages in BM25."""
    return [replace(hit, text_score=None, fused=None) for hit in hits]


def without_sources(hits: list[Hit]) -> list[Hit]:
    """Hits of a collection whose uploads lie elsewhere."""
    return [replace(hit, source="") for hit in hits]
