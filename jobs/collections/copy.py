"""Copy or rename a collection: its rows with their vectors, its page files and its uploads.

Until all is copied the new collection carries a mark (cluster/store/unfinished.py) and nobody can
use it. Renaming is copying and then dropping the former name, which counts until then; what was
interrupted begins again when it is run again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cluster.errors import InvalidInput, NotFound
from cluster.settings import Settings, load_settings
from cluster.store import schema
from cluster.store.client import Client, Entity
from cluster.store.copying import (
    Change,
    check_quiet,
    check_unchanged,
    copy_collection_rows,
    read_state,
)
from cluster.store.format import (
    StoredCollection,
    create_collection,
    find_collection,
    names_in_milvus,
    read_format,
    remove_collection,
)
from cluster.store.milvus import open_existing_store
from cluster.store.rows import count_rows
from cluster.store.unfinished import Unfinished, mark_unfinished, read_mark, remove_mark
from jobs.collections.files import CollectionFiles, check_no_jobs
from jobs.progress import Step
from jobs.uploads import UploadPlace

DOCUMENT_BATCH = 1000


@dataclass(frozen=True)
class CopiedCollection:
    """What was copied: documents and rows as Milvus counts them, page files and uploads."""

    collection: str
    source: str
    documents: int
    rows: int
    files: int


def copy_collection(
    settings: Settings, source: str, target: str, step: Step = lambda *_: None
) -> CopiedCollection:
    """Copy a collection under another name. `step` is told how it goes.

    Raises NotFound; InvalidInput where the target is there already, or the source changes;
    FilesUnavailable.
    """
    with open_existing_store(settings) as store:
        return _Copy(settings, store.client, source, target, "copy", step).run()


def rename_collection(
    settings: Settings, source: str, target: str, step: Step = lambda *_: None
) -> CopiedCollection:
    """Copy a collection under another name, then drop the former one.

    Raises as `copy_collection` does, and InvalidInput while jobs of the service wait for uploads.
    """
    check_no_jobs(settings, source)
    with open_existing_store(settings) as store:
        return _Copy(settings, store.client, source, target, "rename", step).run()


class _Copy:
    """One collection on its way to another name."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        source: str,
        target: str,
        filling: Literal["copy", "rename"],
        step: Step,
    ) -> None:
        load_settings(collection=target)  # raises InvalidInput where it is no name
        if source == target:
            raise InvalidInput(f"{source!r} is the name of both: name another one")
        self._client = client
        self._source, self._target = source, target
        self._filling: Literal["copy", "rename"] = filling
        self._step = step
        self._files = CollectionFiles(settings, source)
        self._copies = CollectionFiles(settings, target)

    def run(self) -> CopiedCollection:
        mark = read_mark(self._client, self._target)
        stored = find_collection(self._client, self._source)
        if stored is None and self._filling == "rename" and self._is_copied(mark):
            return self._end_rename()
        if stored is None:
            raise NotFound(
                f"there is no collection {self._source!r}: `quire collections list` shows them"
            )
        self._make_room(mark)
        check_quiet(self._client, stored)
        state = read_state(self._client, stored)
        mark_unfinished(self._client, self._target, Unfinished(self._filling, self._source))
        create_collection(
            self._client, self._target, stored.fingerprint, chunk_vectors=stored.chunk_vectors
        )
        files = self._copy_files(stored, state.documents)
        self._copy_rows(stored, state.rows)
        check_unchanged(self._client, stored, state)
        documents, rows = self._count_copied()
        if (documents, rows) != (state.documents, state.rows):
            raise InvalidInput(
                f"{documents} of {state.documents} documents and {rows} of {state.rows} rows were "
                "copied: run this again"
            )
        if self._filling == "rename":
            self._client.drop(stored.pages)  # from here on the copy counts
            return self._end_rename()
        remove_mark(self._client, self._target)
        return CopiedCollection(self._target, self._source, documents, rows, files)

    def _is_copied(self, mark: Unfinished | None) -> bool:
        """True where a renaming was interrupted when all was copied: remains of it are there."""
        if mark is not None:
            return mark == Unfinished("rename", self._source)
        has_remains = names_in_milvus(self._client, self._source) or self._files.count()
        return bool(has_remains) and find_collection(self._client, self._target) is not None

    def _end_rename(self) -> CopiedCollection:
        """Declare the copy whole, and remove what is left of the former name."""
        remove_mark(self._client, self._target)
        remove_collection(self._client, self._source)
        self._files.remove_all()
        documents, rows = self._count_copied()
        files = self._copies.count()
        return CopiedCollection(self._target, self._source, documents, rows, files)

    def _make_room(self, mark: Unfinished | None) -> None:
        """Remove what an interrupted copy left. Raises InvalidInput where it was none of ours."""
        names = names_in_milvus(self._client, self._target)
        if mark is None:
            if names or self._copies.count():
                raise InvalidInput(
                    f"there is a collection {self._target!r} already, or files of one: choose "
                    f"another name, or `quire collections drop {self._target}`"
                )
            return
        if mark.source != self._source:
            raise InvalidInput(
                f"{self._target!r} is half a {mark.filling} of {mark.source!r}: "
                f"{mark.to_do(self._target)}, or `quire collections drop {self._target}`"
            )
        remove_collection(self._client, self._target)
        self._copies.remove_all()
        remove_mark(self._client, self._target)

    def _copy_files(self, stored: StoredCollection, documents: int) -> int:
        files = 0
        for done, key in enumerate(documents_of(self._client, stored.documents), start=1):
            files += self._files.copy_document(*key, self._copies)
            self._step("files of documents", done, documents)
        return files

    def _copy_rows(self, stored: StoredCollection, rows: int) -> None:
        copy_collection_rows(
            self._client,
            stored,
            read_format(self._client, self._target),
            change=moved_rows(self._files.uploads.place, self._copies.uploads.place),
            progress=lambda done: self._step("rows", done, rows),
        )

    def _count_copied(self) -> tuple[int, int]:
        """Count the documents and rows of the copy."""
        copy = read_format(self._client, self._target)
        return self._client.count(copy.documents, ""), count_rows(self._client, copy)


def documents_of(client: Client, documents: str) -> Iterator[tuple[str, str]]:
    """Yield (tenant, doc_id) of every document of a collection of Milvus."""
    if not client.count(documents, schema.IS_DOCUMENT):
        return
    fields = ("tenant", "doc_id")
    for entities in client.iterate(documents, schema.IS_DOCUMENT, fields, DOCUMENT_BATCH):
        yield from ((entity["tenant"], entity["doc_id"]) for entity in entities)


def moved_rows(former: UploadPlace, place: UploadPlace) -> Change:
    """Return what gives rows the sources of uploads that lie at another place."""

    def change(entity: Entity) -> Entity:
        tenant, doc_id, source = entity["tenant"], entity["doc_id"], entity["source"]
        moved = former.moved_source(tenant, doc_id, source, place)
        return entity if moved == source else schema.with_source(entity, moved)

    return change
