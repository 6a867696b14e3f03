"""Drop a collection: first its rows, so that it is gone at once, then its files."""

from dataclasses import dataclass

from cluster.core import Document
from cluster.errors import InvalidInput, NotFound
from cluster.ids import filter_label
from cluster.settings import Settings
from cluster.store import schema
from cluster.store.client import Client
from cluster.store.filters import with_labels
from cluster.store.format import collection_names, names_in_milvus
from cluster.store.milvus import MilvusStore, open_existing_store
from cluster.store.rows import OF_PAGES
from cluster.store.unfinished import read_mark, remove_mark
from jobs.collections.copy import documents_of
from jobs.collections.files import CollectionFiles, check_no_jobs
from jobs.forget import forget_former_files


@dataclass(frozen=True)
class DroppedCollection:
    """What a collection holds, and goes with it: `files` are those of pages and uploads."""

    collection: str
    documents: int
    pages: int
    files: int


def look_at_collection(settings: Settings, name: str) -> DroppedCollection:
    """Count what would go with a collection, also with half a one. Raises NotFound."""
    with open_existing_store(settings) as store:
        client, names = store.client, names_in_milvus(store.client, name)
        documents = _count(client, names, "_documents", schema.IS_DOCUMENT)
        pages = _count(client, names, "_pages", OF_PAGES)
        has_mark = read_mark(client, name) is not None
    files = CollectionFiles(settings, name).count()
    if not names and not files and not has_mark:
        raise NotFound(f"there is no collection {name!r}: `quire collections list` shows them")
    return DroppedCollection(name, documents, pages, files)


def drop_collection(settings: Settings, name: str, *, force: bool = False) -> DroppedCollection:
    """Remove a collection for good; returns what went. May be repeated where it was interrupted.

    Raises NotFound; InvalidInput while it is being renamed, or, unless `force`, while its documents
    are being indexed.
    """
    dropped = look_at_collection(settings, name)
    if not force:
        check_no_jobs(settings, name)
    with open_existing_store(settings) as store:
        names = names_in_milvus(store.client, name)
        _check_not_renamed(store.client, name)
        if not force:
            _check_not_indexing(store.client, name, names)
        for part in ("pages", "chunks"):  # without its pages, nothing of it is found
            for rows in sorted(each for each in names if each.startswith(f"{name}_{part}")):
                store.client.drop(rows)
        for documents in sorted(each for each in names if each.startswith(f"{name}_documents")):
            _remove_former_files(settings, store.collection(name), documents)
            store.client.drop(documents)
        CollectionFiles(settings, name).remove_all()
        remove_mark(store.client, name)
    return dropped


def _count(client: Client, names: set[str], part: str, expression: str) -> int:
    return max((client.count(name, expression) for name in names if part in name), default=0)


def _check_not_renamed(client: Client, name: str) -> None:
    for other in collection_names(client):
        mark = read_mark(client, other)
        if mark and mark.filling == "rename" and mark.source == name:
            raise InvalidInput(
                f"{name!r} is being renamed: {mark.to_do(other)}, or first "
                f"`quire collections drop {other}`"
            )


def _check_not_indexing(client: Client, name: str, names: set[str]) -> None:
    expression = with_labels([filter_label("status", "indexing")])
    if indexing := _count(client, names, "_documents", expression):
        raise InvalidInput(
            f"{indexing} documents of {name!r} are being indexed, or were left so: let that end, "
            "or drop it with --force"
        )


def _remove_former_files(settings: Settings, store: MilvusStore, documents: str) -> None:
    """Remove the files that Quire 0.1 kept for all collections, once no other needs them."""
    files = CollectionFiles(settings, store.name)
    for tenant, doc_id in documents_of(store.client, documents):
        document = Document(doc_id, "", source="", tenant=tenant)
        forget_former_files(store, files.pages, files.uploads, document)
