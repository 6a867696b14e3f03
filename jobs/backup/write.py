"""Make a backup of a store: of all its collections, or of one.

Rows become Parquet, page files and uploads tar files of bounded size. A collection is backed up
while nothing writes to it: otherwise the backup is refused, before or after it was made.
"""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pyarrow.parquet as pq

from cluster.errors import InvalidInput, NotFound
from cluster.folders import DocumentFolders, folder_key
from cluster.settings import Settings
from cluster.store.client import Client
from cluster.store.copying import check_unchanged, read_state, wait_until_quiet
from cluster.store.format import StoredCollection, collection_names, find_collection
from cluster.store.milvus import open_existing_store
from cluster.store.parquet import rows_schema, to_record_batch
from cluster.store.rows import OF_PAGES
from cluster.store.unfinished import read_mark
from jobs.backup.folder import (
    BATCH_FILES,
    MAX_BATCHED_BYTES,
    BackupFolder,
    PartWriter,
    add_file,
    open_tar,
)
from jobs.backup.manifest import CollectionBackup, Manifest, Part
from jobs.collections.copy import documents_of
from jobs.collections.files import CollectionFiles
from jobs.progress import Step

Files = Iterator[dict[str, tuple[str, int]]]  # of a document, as `{key}/{name}`: (path, bytes)


def make_backup(
    settings: Settings,
    url: str,
    *,
    collection: str = "",
    wait_s: float = 0,
    step: Step = lambda *_: None,
) -> Manifest:
    """Back up a store into a folder or a URL; `collection`: only this one, without keys and jobs.

    `wait_s`: how long to wait while documents are being indexed or deleted. `step` is told how it
    goes. Raises NotFound; InvalidInput where the place is taken, or while a collection changes;
    FilesUnavailable.
    """
    with open_existing_store(settings) as store:
        stored = _find_collections(store.client, collection)
        if not stored:
            raise NotFound(f"there is nothing to back up in {settings.store}")
        for each in stored:
            wait_until_quiet(store.client, each, wait_s)
        folder = BackupFolder(url)
        folder.begin()
        collections = tuple(
            _CollectionWriter(settings, store.client, each, folder, step).write() for each in stored
        )
    manifest = Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        collections=collections,
        keys=None if collection else _write_keys(settings, folder),
        job_parts=() if collection else _write_jobs(settings, folder),
    )
    folder.end(manifest)
    return manifest


class _CollectionWriter:
    """Writes one collection into a backup."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        stored: StoredCollection,
        folder: BackupFolder,
        step: Step,
    ) -> None:
        self._client = client
        self._stored = stored
        self._folder = folder
        self._step = step
        self._place = CollectionFiles(settings, stored.name).uploads.place
        self._page_files = DocumentFolders(settings.page_images_url, stored.name)
        self._uploads = DocumentFolders(settings.uploads_url, stored.name)

    def write(self) -> CollectionBackup:
        """Write it; raises InvalidInput where it changed meanwhile."""
        stored, before = self._stored, read_state(self._client, self._stored)
        documents = self._write_rows(stored.documents, "documents", before.documents)
        rows = self._write_rows(stored.pages, "rows", before.rows)
        chunks = None
        if stored.has_chunk_table:
            chunks = self._write_rows(stored.chunks, "chunks", before.rows - rows.entries)
        pages = self._client.count(stored.pages, OF_PAGES)
        page_files = self._write_files(self._page_files, "page-files", self._files_of_pages())
        uploads = self._write_files(self._uploads, "uploads", self._files_of_uploads())
        check_unchanged(self._client, stored, before)
        rows_read = rows.entries + (chunks.entries if chunks else 0)
        if (documents.entries, rows_read) != (before.documents, before.rows):
            raise InvalidInput(
                f"{documents.entries} of {before.documents} documents and {rows_read} of "
                f"{before.rows} rows of {stored.name!r} were read: make the backup again"
            )
        return CollectionBackup(
            name=stored.name,
            format=stored.format,
            fingerprint=stored.fingerprint,
            chunk_vectors=stored.chunk_vectors,
            documents=documents.entries,
            rows=rows_read,
            pages=pages,
            page_files=page_files.entries,
            uploads=uploads.entries,
            uploads_url=self._place.root,
            document_parts=tuple(documents.parts),
            row_parts=tuple(rows.parts),
            chunk_parts=tuple(chunks.parts) if chunks else (),
            page_file_parts=tuple(page_files.parts),
            upload_parts=tuple(uploads.parts),
        )

    def _path(self, part: str) -> str:
        return f"collections/{self._stored.name}/{part}"

    def _write_rows(self, name: str, part: str, total: int) -> PartWriter:
        columns = rows_schema(self._client.describe(name))
        done = 0
        with PartWriter(
            self._folder,
            self._path(part),
            "parquet",
            lambda file: pq.ParquetWriter(file, columns, compression="zstd"),
        ) as writer:
            for entities in self._client.whole_rows(name, ""):
                writer.taker(len(entities)).write_batch(to_record_batch(entities, columns))
                done += len(entities)
                self._step(f"{part} of {self._stored.name}", done, total)
        return writer

    def _write_files(self, folders: DocumentFolders, part: str, files: Files) -> PartWriter:
        with PartWriter(self._folder, self._path(part), "tar", open_tar) as writer:
            for of_document in files:
                for batch in _batches(of_document):
                    _add_batch(folders, batch, writer)
        return writer

    def _files_of_pages(self) -> Files:
        total = self._client.count(self._stored.documents, "")
        for done, (tenant, doc_id) in enumerate(self._documents(), start=1):
            key = folder_key(tenant, doc_id)
            yield _named(key, self._page_files.files(key))
            self._step(f"page files of {self._stored.name}", done, total)

    def _files_of_uploads(self) -> Files:
        """Of every upload, those too that wait to be indexed; then those that Quire 0.1 kept."""
        for key in self._uploads.keys():  # noqa: SIM118 — a method of its own
            yield _named(key, self._uploads.files(key))
        for tenant, doc_id in self._documents():
            key = folder_key(tenant, doc_id)
            if not self._uploads.names(self._uploads.path(tenant, doc_id)):
                yield _named(key, self._uploads.files(key))

    def _documents(self) -> Iterator[tuple[str, str]]:
        return documents_of(self._client, self._stored.documents)


def _find_collections(client: Client, name: str) -> list[StoredCollection]:
    """Return the collection of this name; with "" all of Quire's.

    Raises NotFound; InvalidInput where one is not whole; FormatMismatch where a newer Quire made
    it.
    """
    found = []
    for each in [name] if name else collection_names(client):
        try:
            stored = find_collection(client, each)
        except InvalidInput:
            if name or read_mark(client, each):
                raise
            continue  # somebody else's
        if stored is None:
            raise NotFound(f"there is no collection {each!r}: `quire collections list` shows them")
        found.append(stored)
    return found


def _named(key: str, files: dict[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
    return {f"{key}/{name}": entry for name, entry in files.items()}


def _batches(files: dict[str, tuple[str, int]]) -> Iterator[dict[str, tuple[str, int]]]:
    """Yield files in batches that may be held in memory; a large one comes by itself."""
    batch: dict[str, tuple[str, int]] = {}
    for name, (path, size) in files.items():
        if size > MAX_BATCHED_BYTES:
            yield {name: (path, size)}
            continue
        batch[name] = (path, size)
        if len(batch) == BATCH_FILES:
            yield batch
            batch = {}
    if batch:
        yield batch


def _add_batch(
    folders: DocumentFolders, batch: dict[str, tuple[str, int]], writer: PartWriter
) -> None:
    first_size = next(iter(batch.values()))[1]
    if first_size > MAX_BATCHED_BYTES:
        for name, (path, size) in batch.items():
            with folders.fs.open(path, "rb") as file:
                add_file(writer.taker(1), name, size, file)
        return
    contents = folders.read_all([path for path, _ in batch.values()])
    for name, (path, _) in batch.items():
        data = contents[path]
        add_file(writer.taker(1), name, len(data), io.BytesIO(data))


def _write_keys(settings: Settings, folder: BackupFolder) -> Part | None:
    """Write the file of keys; they are hashes, whose texts nobody has but their callers."""
    if not settings.keys_path.is_file():
        return None
    data = settings.keys_path.read_bytes()
    with folder.writing("keys.json") as file:
        folder.keep_private("keys.json")
        file.write(data)
    return Part(
        name="keys.json", bytes=file.size, sha256=file.sha256, entries=len(json.loads(data))
    )


def _write_jobs(settings: Settings, folder: BackupFolder) -> tuple[Part, ...]:
    with PartWriter(folder, "jobs", "tar", open_tar) as writer:
        for path in sorted((settings.data_dir / "jobs").glob("*.json")):
            data = path.read_bytes()
            add_file(writer.taker(1), path.name, len(data), io.BytesIO(data))
    return tuple(writer.parts)
