"""The end of a document's ingest: its final status is stored, what it replaces is forgotten."""

from dataclasses import replace

from cluster.core import Document, Filter
from cluster.pages.files import PageFiles
from cluster.settings import Settings
from cluster.store.milvus import MilvusStore
from jobs.forget import forget_document


class DocumentFinisher:
    """Writes a document's final status."""

    def __init__(self, settings: Settings, store: MilvusStore) -> None:
        self._store = store
        self._files = PageFiles(settings.page_images_url)

    def finish(self, document: Document, pages: int) -> list[str]:
        """Store a document of which `pages` pages must be in the index; forget what it replaces.

        Returns the ids of the documents that were forgotten.
        """
        if document.status != "indexed":
            self._store.put_document(document)
            return []
        wanted = Filter(tenant=document.tenant, doc_ids=(document.doc_id,))
        present = self._store.count_pages(wanted)
        if present < pages:  # forgotten meanwhile, or lost by the server
            gone = f"{pages - present} pages are gone again: ingest it again"
            document = replace(document, error=f"{document.error}; {gone}".strip("; "))
        # First what it replaces: killed in between, this one is still `indexing`, and the next
        # ingest finishes it.
        replaced = self.forget_replaced(document)
        self._store.put_document(document)
        return replaced

    def forget_replaced(self, document: Document) -> list[str]:
        """Forget older documents of the same source; returns their ids."""
        same_source = self._store.documents(Filter(tenant=document.tenant), source=document.source)
        return [
            forget_document(self._store, self._files, older).doc_id
            for older in same_source
            if older.doc_id != document.doc_id and older.time_ms <= document.time_ms
        ]
