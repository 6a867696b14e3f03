"""Restore a backup: all of it is checked first, and nothing that is there is overwritten."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

from cluster.errors import InvalidInput, NotFound
from cluster.folders import DocumentFolders
from cluster.settings import Settings, load_settings
from cluster.store import schema
from cluster.store.client import Client, Entity
from cluster.store.copying import with_defaults
from cluster.store.format import (
    create_collection,
    find_collection,
    names_in_milvus,
    read_format,
    remove_collection,
)
from cluster.store.milvus import open_store
from cluster.store.parquet import read_rows
from cluster.store.rows import OF_PAGES, count_rows, upsert_rows
from cluster.store.unfinished import Unfinished, mark_unfinished, read_mark, remove_mark
from jobs.backup.check import check_backup
from jobs.backup.folder import BATCH_FILES, MAX_BATCHED_BYTES, BackupFolder, read_tar
from jobs.backup.manifest import CollectionBackup, Manifest, Part
from jobs.collections.copy import moved_rows
from jobs.collections.files import CollectionFiles
from jobs.progress import Step
from jobs.uploads import UploadPlace

Keys = Literal["restored", "kept", "none"]


@dataclass(frozen=True)
class RestoredCollection:
    """One collection as it is now: `source` is its name in the backup."""

    collection: str
    source: str
    documents: int
    pages: int
    rows: int
    page_files: int
    uploads: int


@dataclass(frozen=True)
class RestoredBackup:
    """What was restored; keys are `kept` where there were some already."""

    collections: tuple[RestoredCollection, ...]
    keys: Keys
    jobs: int


def restore_backup(
    settings: Settings,
    url: str,
    *,
    collection: str = "",
    name: str = "",
    step: Step = lambda *_: None,
) -> RestoredBackup:
    """Restore a backup into a store that lacks its collections.

    `collection`: only this one, without keys and jobs; `name`: what it is called from now on.
    Raises NotFound; InvalidInput where the backup is incomplete or damaged, or where a collection
    is there already; FormatMismatch where a newer Quire made it; FilesUnavailable.
    """
    folder = BackupFolder(url)
    manifest = folder.manifest()
    chosen = _choose(manifest, collection, name)
    is_whole = not collection and not name
    if not is_whole:
        manifest = manifest.model_copy(update={"keys": None, "job_parts": ()})
    with open_store(settings) as store:
        for target in chosen:
            _check_room(store.client, target)
        check_backup(folder, manifest, tuple(chosen.values()), step)
        restored = tuple(
            _Restore(settings, store.client, folder, backup, target, step).run()
            for target, backup in chosen.items()
        )
    keys = _restore_keys(settings, folder, manifest.keys)
    jobs = _restore_jobs(settings, folder, manifest)
    return RestoredBackup(restored, keys, jobs)


def _choose(manifest: Manifest, collection: str, name: str) -> dict[str, CollectionBackup]:
    """Return what to restore by the name that it gets. Raises NotFound or InvalidInput."""
    held = {each.name: each for each in manifest.collections}
    if collection and collection not in held:
        raise NotFound(f"the backup has no collection {collection!r}: it has {', '.join(held)}")
    chosen = {collection: held[collection]} if collection else held
    if not name:
        return chosen
    if len(chosen) != 1:
        raise InvalidInput(f"--as is the name of one: choose of {', '.join(held)} by --collection")
    load_settings(collection=name)  # raises InvalidInput where it is no name
    (backup,) = chosen.values()
    return {name: backup}


def _check_room(client: Client, name: str) -> None:
    """Raise InvalidInput where a collection is there that holds anything."""
    mark = read_mark(client, name)
    if mark and mark.filling == "restore":
        return  # it was interrupted, and begins again
    stored = find_collection(client, name)
    if stored is None and not names_in_milvus(client, name):
        return
    if (
        stored is None
        or client.count(stored.documents, schema.IS_DOCUMENT)
        or count_rows(client, stored)
    ):
        raise InvalidInput(
            f"there is a collection {name!r} already: restore under another name (--as), or "
            f"`quire collections drop {name}` first"
        )


class _Restore:
    """One collection on its way out of a backup."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        folder: BackupFolder,
        backup: CollectionBackup,
        name: str,
        step: Step,
    ) -> None:
        self._client = client
        self._folder = folder
        self._backup = backup
        self._name = name
        self._step = step
        self._place = CollectionFiles(settings, name).uploads.place
        self._page_files = DocumentFolders(settings.page_images_url, name)
        self._uploads = DocumentFolders(settings.uploads_url, name)

    def run(self) -> RestoredCollection:
        backup, client, name = self._backup, self._client, self._name
        remove_collection(client, name)
        remove_mark(client, name)
        mark_unfinished(client, name, Unfinished("restore", self._folder.url))
        create_collection(client, name, backup.fingerprint, chunk_vectors=backup.chunk_vectors)
        stored = read_format(client, name)
        self._write_files(self._page_files, backup.page_file_parts, "page files")
        self._write_files(self._uploads, backup.upload_parts, "uploads")
        write_documents = partial(client.upsert, stored.documents)
        write_rows = partial(upsert_rows, client, stored)
        self._write(write_documents, backup.document_parts, "documents")
        self._write(write_rows, (*backup.chunk_parts, *backup.row_parts), "rows")
        documents, rows = client.count(stored.documents, ""), count_rows(client, stored)
        pages = client.count(stored.pages, OF_PAGES)
        if (documents, rows, pages) != (backup.documents, backup.rows, backup.pages):
            raise InvalidInput(
                f"{documents} of {backup.documents} documents and {rows} of {backup.rows} rows of "
                f"{name!r} were restored: something else writes to it; restore it again"
            )
        remove_mark(client, name)
        files = (backup.page_files, backup.uploads)
        return RestoredCollection(name, backup.name, documents, pages, rows, *files)

    def _write(
        self, write: Callable[[list[Entity]], None], parts: tuple[Part, ...], what: str
    ) -> None:
        change = moved_rows(UploadPlace(self._backup.uploads_url, self._backup.name), self._place)
        done, total = 0, sum(part.entries for part in parts)
        for part in parts:
            with self._folder.reading(f"{self._backup.folder}/{part.name}") as file:
                for entities in read_rows(file):
                    write([with_defaults(change(entity)) for entity in entities])
                    done += len(entities)
                    self._step(f"{what} of {self._name}", done, total)

    def _write_files(self, folders: DocumentFolders, parts: tuple[Part, ...], what: str) -> None:
        done, total = 0, sum(part.entries for part in parts)
        batch: dict[str, bytes] = {}
        for part in parts:
            with self._folder.reading(f"{self._backup.folder}/{part.name}") as file:
                for entry, opened in read_tar(file):
                    key, _, name = entry.name.rpartition("/")
                    if entry.size > MAX_BATCHED_BYTES:
                        _write_large(folders, f"{folders.at(key)}/{name}", opened)
                    else:
                        batch[f"{folders.at(key)}/{name}"] = opened.read()
                    if len(batch) == BATCH_FILES:
                        folders.write_all(batch)
                        batch = {}
                    done += 1
                    self._step(f"{what} of {self._name}", done, total)
        folders.write_all(batch)


def _write_large(folders: DocumentFolders, path: str, file: IO[bytes]) -> None:
    try:
        folders.write_from(path, file)
    except OSError as error:
        raise folders.unwritable(error) from error


def _restore_keys(settings: Settings, folder: BackupFolder, part: Part | None) -> Keys:
    """Restore the keys where there are none: those that are there may be newer."""
    if part is None:
        return "none"
    if settings.keys_path.exists():
        return "kept"
    with folder.reading(part.name) as file:
        text = file.read()
    return "restored" if _write_new(settings.keys_path, text) else "kept"


def _restore_jobs(settings: Settings, folder: BackupFolder, manifest: Manifest) -> int:
    """Restore the jobs that are not there, with uploads where they lie now; returns how many."""
    moves = {
        UploadPlace(each.uploads_url, each.name): CollectionFiles(settings, each.name).uploads.place
        for each in manifest.collections
    }
    jobs = 0
    for part in manifest.job_parts:
        with folder.reading(part.name) as file:
            for entry, opened in read_tar(file):
                job = json.loads(opened.read())
                paths = [_moved(path, moves) for path in job["request"]["paths"]]
                job["request"]["paths"] = paths
                path = settings.data_dir / "jobs" / entry.name
                jobs += _write_new(path, json.dumps(job).encode())
    return jobs


def _moved(path: str, moves: dict[UploadPlace, UploadPlace]) -> str:
    for former, place in moves.items():
        if former.has(path):
            below = path.removeprefix(f"{former.root}/{former.collection}/")
            return f"{place.root}/{place.collection}/{below}"
    return path


def _write_new(path: Path, data: bytes) -> bool:
    """Write a file that only its owner reads, whole or not at all; False where one is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.restored")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    try:
        path.hardlink_to(draft)  # unlike a rename, never over another
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True
