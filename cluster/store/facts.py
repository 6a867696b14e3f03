"""Change what is known of a document (tags, metadata, title, source) without embedding anything.

Milvus Lite 2.5.1 cannot write some fields of a row alone, so rows are read with their vectors and
written back. They carry these fields because every search filters by them.
"""

from cluster.core import Document
from cluster.store import schema
from cluster.store.milvus import MilvusStore, rows_of


def rewrite_document(store: MilvusStore, document: Document) -> int:
    """Give a document and its rows the facts that it has here; returns how many rows changed.

    The document goes last: an interruption leaves it as it was, and the next call does it again.
    """
    pages = store.required().pages
    facts = schema.row_facts(document)
    rows = 0
    for entities in store.client.whole_rows(pages, rows_of(document)):
        store.client.upsert(pages, [entity | facts for entity in entities])
        rows += len(entities)
    store.put_document(document)
    return rows
