"""Forget documents: at once invisible, and gone for good even while an ingest writes them.

The document is marked first, then its rows, page files and original go, and the document itself
last: what failed half-way is found again and can be repeated.
"""

from dataclasses import dataclass

from cluster.core import Document, Filter
from cluster.errors import InvalidInput
from cluster.pages.files import PageFiles
from cluster.settings import Settings
from cluster.sources import absolute_source
from cluster.store.deletion import begin_deletion, end_deletion, mark_tenant
from cluster.store.milvus import MilvusStore, open_existing_store
from jobs.journal import Journal
from jobs.report_file import remove_reports
from jobs.uploads import Uploads


@dataclass(frozen=True)
class RemovedDocument:
    """What was removed with one document: its rows and its page images."""

    doc_id: str
    source: str
    tenant: str
    rows: int
    images: int


class Forgetter:
    """Removes documents of one collection: rows, page files, and what was uploaded."""

    def __init__(self, settings: Settings, store: MilvusStore) -> None:
        self._settings = settings
        self._store = store
        self._files = PageFiles.from_settings(settings)
        self._uploads = Uploads.from_settings(settings)

    def forget(self, document: Document) -> RemovedDocument:
        """Remove one document; what a running ingest writes of it from now on goes, too."""
        begin_deletion(self._store, document)
        rows = self._store.forget_pages(document)
        images = self._files.forget(document)
        self._uploads.forget(document)
        images += forget_former_files(self._store, self._files, self._uploads, document)
        end_deletion(self._store, document)
        return RemovedDocument(
            doc_id=document.doc_id,
            source=document.source,
            tenant=document.tenant,
            rows=rows,
            images=images,
        )

    def forget_unwritten(self, document: Document) -> None:
        """Remove what an ingest wrote of a document that had been deleted meanwhile."""
        self._store.forget_pages(document)
        self._files.forget(document)

    def forget_tenant(self, tenant: str) -> list[RemovedDocument]:
        """Remove all of a tenant in the collection: documents, uploads that wait, jobs, reports.

        An ingest of this tenant that runs writes nothing more.
        """
        if self._store.stored() is not None:
            mark_tenant(self._store, tenant)
        folder, collection = self._settings.data_dir, self._settings.collection
        Journal(folder / "jobs").forget_tenant(tenant, collection)
        removed = [self.forget(each) for each in self._store.documents(Filter(tenant=tenant))]
        self._files.forget_tenant(tenant)
        self._uploads.forget_tenant(tenant)
        remove_reports(folder / "reports", tenant, collection)
        return removed


def forget_former_files(
    store: MilvusStore, files: PageFiles, uploads: Uploads, document: Document
) -> int:
    """Remove the files that Quire 0.1 kept for all collections, once no other needs them.

    Returns how many page images went.
    """
    has_former = files.has_former(document) or uploads.has_former(document)
    if not has_former or store.is_elsewhere(document):
        return 0
    uploads.forget_former(document)
    return files.forget_former(document)


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
    with open_existing_store(settings) as store:
        forgetter = Forgetter(settings, store)
        if tenant is not None and not doc_id and source is None:
            return forgetter.forget_tenant(tenant)
        documents = store.documents(wanted, source=source)
        return [forgetter.forget(document) for document in documents]
