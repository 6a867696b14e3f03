"""What is deleted stays deleted, also while an ingest writes it.

A deletion first marks the document (status `deleting`), then its rows and files go, and the
document last. A writer of an ingest asks before and after it writes whose the document is: gone or
marked, what it wrote goes too. That a whole tenant was forgotten is a mark of its own, so that an
ingest finds it also for documents that it has not written yet. Reads are strongly consistent.
"""

import uuid
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Literal

from cluster.core import Document, DocumentStatus
from cluster.ids import filter_label, find_mark, key_of, tenant_digest
from cluster.store import schema
from cluster.store.conditions import is_one_of, with_any_label
from cluster.store.milvus import MilvusStore, rows_of

Owner = Literal["ours", "another", "gone"]  # of a document, as one ingest sees it


def owners(store: MilvusStore, documents: Iterable[Document]) -> dict[str, Owner]:
    """Tell for each document, by its key, whether the ingest that it comes from may write it."""
    by_key = {key_of(document): document for document in documents}
    if not by_key:
        return {}
    collection = store.required()
    fields = ("doc_key", "status", collection.marks_field)
    rows = store.client.query(collection.documents, is_one_of("doc_key", by_key), fields)
    stored = {row["doc_key"]: (row["status"], schema.marks_in(row)) for row in rows}
    nothing: tuple[DocumentStatus, tuple[str, ...]] = ("deleting", ())
    return {key: _owner(document, *stored.get(key, nothing)) for key, document in by_key.items()}


def owner_of(document: Document, stored: Document | None) -> Owner:
    """Tell the same of one document, from what is stored of it; None where nothing is."""
    return _owner(document, stored.status, stored.marks) if stored else "gone"


def begin_deletion(store: MilvusStore, document: Document) -> None:
    """Mark a document: from now on no ingest writes it."""
    store.put_document(replace(document, status="deleting"))


def end_deletion(store: MilvusStore, document: Document) -> None:
    """Remove a document that is marked, or that the ingest which it came from wrote since.

    One that a newer ingest has begun to write stays.
    """
    labels = filter(None, [filter_label("status", "deleting"), find_mark(document.marks, "ingest")])
    expression = f"{rows_of(document)} and {with_any_label(labels)}"
    store.client.delete(store.required().documents, expression)


def tenant_mark(store: MilvusStore, tenant: str) -> str:
    """Return what changes when a tenant is forgotten; "" where it never was."""
    expression = f'doc_key in ["{_mark_key(tenant)}"]'
    rows = store.client.query(store.required().documents, expression, ("sha256",))
    return str(rows[0]["sha256"]) if rows else ""


def mark_tenant(store: MilvusStore, tenant: str) -> None:
    """Write down that a tenant is forgotten now; the mark holds a digest of its name."""
    mark = Document(schema.TENANT_MARK_ID, uuid.uuid4().hex, source="", status="deleting")
    entity = schema.document_entity(mark) | {"doc_key": _mark_key(tenant), "labels": []}
    stored = store.required()
    store.client.upsert(stored.documents, [stored.fitting(entity)])


def _mark_key(tenant: str) -> str:
    return f"{tenant_digest(tenant)}:{schema.TENANT_MARK_ID}"


def _owner(document: Document, status: DocumentStatus, marks: Collection[str]) -> Owner:
    if status == "deleting":
        return "gone"
    return "ours" if find_mark(document.marks, "ingest") in marks else "another"
