"""Folders of a collection's documents, on disk or at s3://: one each, so that they go as one."""

import errno
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cluster.errors import FilesUnavailable
from cluster.ids import document_key, tenant_digest

REMOVALS = 10  # of a folder that others write into meanwhile


class DocumentFolders:
    """Files at `url` by collection, tenant and document.

    `former`: the folder where Quire 0.1 kept a document's files, shared by all collections; they
    are read and removed, never written.
    """

    def __init__(self, url: str, collection: str) -> None:
        # A listing that is remembered would hide what another process wrote.
        self.fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._former_root = root
        self._root = f"{root}/{collection}"
        self._is_local = isinstance(self.fs, LocalFileSystem)

    def path(self, tenant: str, doc_id: str) -> str:
        """Return the folder of a document. Raises InvalidInput where the id is none."""
        return f"{self._root}/{_scoped(tenant, doc_id)}"

    def former(self, tenant: str, doc_id: str) -> str:
        return f"{self._former_root}/{_scoped(tenant, doc_id)}"

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder; none where there is no folder."""
        try:
            paths = self.fs.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return sorted(path.rpartition("/")[2] for path in paths)

    def write(self, path: str, data: bytes) -> None:
        """Write a file, whole or not at all. Raises FilesUnavailable."""
        try:
            if self._is_local:
                _write_local(Path(path), data)
            else:
                self.fs.pipe_file(path, data)  # an object appears when it is complete
        except OSError as error:
            raise FilesUnavailable(
                f"{self._root} cannot be written ({error.strerror or error}): make room, or "
                "correct where files are kept; what was done stays"
            ) from error

    def remove(self, folder: str) -> list[str]:
        """Remove a folder; returns the names of the files that were in it."""
        names = self.names(folder)
        if names:
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


def _scoped(tenant: str, doc_id: str) -> str:
    return document_key(tenant, doc_id).replace(":", "/")


def _write_local(path: Path, data: bytes) -> None:
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        try:
            draft.write_bytes(data)
        except FileNotFoundError:
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(data)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


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
