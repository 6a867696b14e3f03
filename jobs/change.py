"""Change what is known of a document: title, tags, metadata. Nothing is embedded again."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.core import Document, Filter, Scalar
from cluster.errors import InvalidInput, NotFound
from cluster.ids import mark, replace_mark
from cluster.settings import Settings
from cluster.sources import absolute_source
from cluster.store.facts import rewrite_document
from cluster.store.milvus import MilvusStore, open_existing_store
from cluster.store.schema import check_document_fields


def change_document(
    store: MilvusStore, tenant: str, doc_id: str, changes: Mapping[str, Any]
) -> Document:
    """Change a document by the names of its fields (`title`, `tags`, `metadata`); returns it.

    Raises NotFound, or InvalidInput where it is being indexed or removed, or a value is wrong.
    """
    document = store.document(tenant, doc_id)
    if document is None:
        raise NotFound(f"there is no document {doc_id}")
    if document.status in ("indexing", "deleting"):
        doing = "indexed" if document.status == "indexing" else "removed"
        raise InvalidInput(f"document {doc_id} is being {doing}: change it when that has ended")
    given = dict(changes)
    if "tags" in given:
        given["tags"] = tuple(dict.fromkeys(given["tags"]))
    changed = replace(document, **given)
    check_document_fields(tenant, changed.tags, changed.metadata)
    if changed == document:
        return document
    own = replace_mark(document.marks, "ingest", mark("ingest", uuid.uuid4().hex))
    owner = rewrite_document(store, document, replace(changed, marks=own))
    if owner == "gone":
        raise NotFound(f"document {doc_id} was removed meanwhile")
    if owner == "another":
        raise InvalidInput(f"document {doc_id} is being indexed: change it when that has ended")
    return changed


@dataclass(frozen=True)
class Edit:
    """Changes of documents, each to what it has: tags and keys to add and to remove."""

    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    title: str | None = None
    metadata: dict[str, Scalar] = field(default_factory=dict)
    drop_keys: set[str] = field(default_factory=set)

    def changes(self, document: Document) -> dict[str, Any]:
        """Return what becomes of a document's fields, by their names."""
        tags = [tag for tag in document.tags if tag not in self.remove_tags]
        kept = {key: value for key, value in document.metadata.items() if key not in self.drop_keys}
        changes = {"tags": [*tags, *self.add_tags], "metadata": kept | self.metadata}
        return changes if self.title is None else changes | {"title": self.title}


def change_documents(
    settings: Settings, tenant: str, doc_ids: Sequence[str], path: str, edit: Edit
) -> list[Document]:
    """Edit documents by their ids, or the one from a path; returns them as they are now.

    Raises NotFound or InvalidInput.
    """
    if not doc_ids and not path:
        raise InvalidInput("say which documents: ids (quire documents prints them), or --path")
    with open_existing_store(settings) as store:
        ids = list(doc_ids)
        if path:
            own = Filter(tenant=tenant)
            ids += [each.doc_id for each in store.documents(own, source=absolute_source(path))]
        changed = []
        for doc_id in ids:
            document = store.document(tenant, doc_id)
            if document is None:
                raise NotFound(f"there is no document {doc_id}")
            changed.append(change_document(store, tenant, doc_id, edit.changes(document)))
        return changed
