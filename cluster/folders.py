"""Folders of a collection's documents, on disk or at s3://: one each, so that they go as one."""

import errno
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cluster.core import Document
from cluster.errors import FilesUnavailable
from cluster.ids import document_key, tenant_digest
from cluster.sources import absolute_source, open_url

CHUNK_BYTES = 8 * 2**20
PART = ".part"  # ends the name of a file that is being written
REMOVALS = 10  # of a folder that others write into meanwhile


class DocumentFolders:
    """Files at `url`, a folder or a URL, by collection, tenant and document.

    `former`: the folder where Quire 0.1 kept a document's files, shared by all collections; they
    are read and removed, never written.
    """

    def __init__(self, url: str, collection: str) -> None:
        self.fs, root = open_url(url)
        self.url = absolute_source(self.fs.unstrip_protocol(root))
        self._former_root = root
        self._root = f"{root}/{collection}"
        self._is_local = isinstance(self.fs, LocalFileSystem)

    def path(self, tenant: str, doc_id: str) -> str:
        """Return the folder of a document. Raises InvalidInput where the id is none."""
        return f"{self._root}/{folder_key(tenant, doc_id)}"

    def at(self, key: str) -> str:
        """Return the folder of a document by `{tenant digest}/{doc_id}`."""
        return f"{self._root}/{key}"

    def former(self, tenant: str, doc_id: str) -> str:
        return f"{self._former_root}/{folder_key(tenant, doc_id)}"

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, of those that are whole."""
        names = [entry["name"].rpartition("/")[2] for entry in self._listed(folder)]
        return sorted(name for name in names if not name.endswith(PART))

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        try:
            return list(self.fs.ls(folder, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def write(self, path: str, data: bytes) -> None:
        """Write a file, whole or not at all. Raises FilesUnavailable."""
        self.write_all({path: data})

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Write files, each whole or not at all; to an object store side by side.

        Raises FilesUnavailable.
        """
        try:
            if self._is_local:
                for path, data in files.items():
                    _write_bytes(Path(path), data)
            else:
                self.fs.pipe(dict(files))  # an object appears when it is complete
        except OSError as error:
            raise self.unwritable(error) from error

    def write_from(self, path: str, file: IO[bytes]) -> None:
        """Write a file of any size, whole or not at all. Raises what reading it raises, OSError."""
        first = file.read(CHUNK_BYTES)
        chunks = chain([first], iter(lambda: file.read(CHUNK_BYTES), b""))
        if self._is_local:
            _write_local(Path(path), chunks)
        elif len(first) < CHUNK_BYTES:
            self.fs.pipe_file(path, first)  # in one request
        else:
            _write_object(self.fs, path, chunks)

    def unwritable(self, error: OSError) -> FilesUnavailable:
        """Return the error that says that, and why, these folders cannot be written."""
        return FilesUnavailable(
            f"{self._root} cannot be written ({error.strerror or error}): make room, or "
            "correct where files are kept; what was done stays"
        )

    def keys(self) -> Iterator[str]:
        """Yield `{tenant digest}/{doc_id}` of every document that has a folder."""
        for tenant in self._listed(self._root):
            for folder in self._listed(tenant["name"]):
                if folder["type"] == "directory":
                    yield "/".join(folder["name"].rsplit("/", 2)[1:])

    def files(self, key: str) -> dict[str, tuple[str, int]]:
        """Return the files of a document by name, those of Quire 0.1 too: (path, bytes).

        `key`: `{tenant digest}/{doc_id}`. A file that is being written is left out.
        """
        entries: dict[str, tuple[str, int]] = {}
        for folder in (f"{self._former_root}/{key}", f"{self._root}/{key}"):
            for entry in self._listed(folder):
                name = entry["name"].rpartition("/")[2]
                if entry["type"] == "file" and not name.endswith(PART):
                    entries[name] = (entry["name"], int(entry["size"]))
        return entries

    def read(self, path: str) -> bytes:
        """Return the bytes of a file. Raises FileNotFoundError."""
        if self._is_local:
            return Path(path).read_bytes()
        return bytes(self.fs.cat_file(path, start=0))  # a range: s3fs asks for no size before

    def read_all(self, paths: list[str]) -> dict[str, bytes]:
        """Return the bytes of files by path; from an object store side by side."""
        if self._is_local:
            return {path: Path(path).read_bytes() for path in paths}
        plain = [path for path in paths if "[" not in path]  # which fsspec takes for a pattern
        contents = dict(self.fs.cat(plain)) if plain else {}
        return contents | {path: self.fs.cat_file(path) for path in paths if path not in contents}

    def copy_document(self, tenant: str, doc_id: str, to: "DocumentFolders") -> int:
        """Copy a document's files, those of Quire 0.1 too, to another collection; returns how many.

        What is there already under the same name is overwritten. Raises FilesUnavailable.
        """
        files = self.files(folder_key(tenant, doc_id))
        paths = {name: path for name, (path, _) in files.items()}
        copies = {name: f"{to.path(tenant, doc_id)}/{name}" for name in paths}
        try:
            if self._is_local:
                for name, path in paths.items():
                    _link_local(Path(path), Path(copies[name]))
            elif paths:
                self.fs.copy(list(paths.values()), list(copies.values()))
        except OSError as error:
            raise to.unwritable(error) from error
        return len(paths)

    def count(self) -> int:
        """Count the files of this collection."""
        return len(self.fs.find(self._root)) if self.fs.exists(self._root) else 0

    def remove_all(self) -> None:
        """Remove every file of this collection, but not those of Quire 0.1."""
        if self.fs.exists(self._root):
            self._remove_tree(self._root)

    def remove(self, folder: str) -> list[str]:
        """Remove a folder; returns the names of the files that were in it."""
        names = self.names(folder)
        if names or self._listed(folder):
            self._remove_tree(folder)
        return names

    def remove_tenant(self, tenant: str) -> None:
        """Remove every folder of a tenant in this collection."""
        folder = f"{self._root}/{tenant_digest(tenant)}"
        if self.fs.exists(folder):
            self._remove_tree(folder)

    def _remove_tree(self, folder: str) -> None:
        """Remove a folder that others may remove, or write into, at the same time."""
        if self._is_local:
            _remove_local(folder)
            return
        with suppress(FileNotFoundError):
            self.fs.rm(folder, recursive=True)


class DocumentFiles:
    """What page files and uploads have in common: a folder for each document of a collection."""

    def __init__(self, url: str, collection: str) -> None:
        self._folders = DocumentFolders(url, collection)

    def has_former(self, document: Document) -> bool:
        """True where Quire 0.1 kept files of a document, for all collections together."""
        return bool(self._folders.names(self._folders.former(document.tenant, document.doc_id)))

    def forget_tenant(self, tenant: str) -> None:
        """Remove every file of a tenant in this collection, also of what waits to be indexed."""
        self._folders.remove_tenant(tenant)

    def copy_document(self, tenant: str, doc_id: str, to: "DocumentFiles") -> int:
        """Copy a document's files to another collection; returns how many.

        Raises FilesUnavailable.
        """
        return self._folders.copy_document(tenant, doc_id, to._folders)

    def count(self) -> int:
        """Count the files of this collection, without those of Quire 0.1."""
        return self._folders.count()

    def remove_all(self) -> None:
        """Remove every file of this collection, but not those of Quire 0.1."""
        self._folders.remove_all()


def folder_key(tenant: str, doc_id: str) -> str:
    """Return the path of a document's folder below its collection: `{tenant digest}/{doc_id}`."""
    return document_key(tenant, doc_id).replace(":", "/")


def _write_local(path: Path, chunks: Iterable[bytes]) -> None:
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PART}")
    try:
        try:
            opened = draft.open("wb")
        except FileNotFoundError:
            draft.parent.mkdir(parents=True, exist_ok=True)
            opened = draft.open("wb")
        with opened:
            opened.writelines(chunks)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _write_bytes(path: Path, data: bytes) -> None:
    """Write a file, also where its folder is removed meanwhile: its writer finds out later."""
    for attempt in range(REMOVALS):
        try:
            _write_local(path, [data])
        except FileNotFoundError:
            if attempt == REMOVALS - 1:
                raise
        else:
            return


def _write_object(fs: fsspec.AbstractFileSystem, path: str, chunks: Iterable[bytes]) -> None:
    """Write an object in parts: it appears when the last one is there, and never before."""
    opened = fs.open(path, "wb", autocommit=False)
    try:
        for chunk in chunks:
            opened.write(chunk)
        opened.close()
        opened.commit()
    except BaseException:
        opened.discard()
        raise


def _link_local(path: Path, copy: Path) -> None:
    """Copy a file whole or not at all; files are replaced and never changed, so two may share one.

    Where the file system has no links, the bytes are copied.
    """
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.unlink(missing_ok=True)
    try:
        copy.hardlink_to(path)
    except FileNotFoundError:
        raise
    except OSError:
        _write_local(copy, [path.read_bytes()])


def _remove_local(folder: str) -> None:
    for _ in range(REMOVALS):
        try:
            shutil.rmtree(folder, onerror=_unless_gone)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        else:
            return
    raise FilesUnavailable(f"{folder} fills while it is removed: stop what writes there, try again")


def _unless_gone(_function: object, _path: str, cause: Any) -> None:
    if not isinstance(cause[1], FileNotFoundError):
        raise cause[1]
