"""Forget documents: rows first, so that they are invisible at once, then their page images.

The document itself goes last: what failed half-way is found again and can be repeated.
"""

from dataclasses import dataclass

from cluster.core import Document, Filter
from cluster.errors import InvalidInput
from cluster.pages.files import PageFiles
from cluster.settings import Settings
from cluster.sources import absolute_source
from cluster.store.milvus import MilvusStore, open_existing_store


@dataclass(frozen=True)
class RemovedDocument:
    """What was removed with one document: its rows and its page images."""

    doc_id: str
    source: str
    tenant: str
    rows: int
    images: int


def forget_documents(
    settings: Settings, *, doc_id: str = "", path: str = "", tenant: str | None = None
) -> list[RemovedDocument]:
    """Forget by id, by source path, or a whole tenant; says what went.

    Raises InvalidInput, or NotFound where there is no store.
    """
    if not doc_id and not path and tenant is None:
        raise InvalidInput("say what to forget: a document id, --path or --tenant")
    wanted = Filter(tenant=tenant, doc_ids=(doc_id,) if doc_id else ())
    source = absolute_source(path) if path else None
    images = PageFiles(settings.page_images_url)
    with open_existing_store(settings) as store:
        documents = store.documents(wanted, source=source)
        return [forget_document(store, images, document) for document in documents]


def forget_document(store: MilvusStore, images: PageFiles, document: Document) -> RemovedDocument:
    """Remove one document from the store and the page images."""
    rows = store.forget_pages(document)
    image_count = images.forget(document)
    rows += store.forget(document)  # the document, and pages that an ingest wrote meanwhile
    return RemovedDocument(
        doc_id=document.doc_id,
        source=document.source,
        tenant=document.tenant,
        rows=rows,
        images=image_count,
    )
