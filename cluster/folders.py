"""Folders of a collection's documents, on disk or at s3://: one each, so that they go as one."""

import uuid
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cluster.errors import FilesUnavailable
from cluster.ids import document_key, tenant_digest
from cluster.sources import absolute_source

PART = ".part"  # ends the name of a file that is being written


class DocumentFolders:
    """Files at `url`, a folder or a URL, by collection, tenant and document.

    `former`: the folder where Quire 0.1 kept a document's files, shared by all collections; they
    are read and removed, never written.
    """

    def __init__(self, url: str, collection: str) -> None:
        # A listing that is remembered would hide what another process wrote.
        self.fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self.url = absolute_source(self.fs.unstrip_protocol(root))
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
            raise self.unwritable(error) from error

    def unwritable(self, error: OSError) -> FilesUnavailable:
        """Return the error that says that, and why, these folders cannot be written."""
        return FilesUnavailable(
            f"{self._root} cannot be written ({error.strerror or error}): make room, or "
            "correct where files are kept; what was done stays"
        )

    def copy_document(self, tenant: str, doc_id: str, to: "DocumentFolders") -> int:
        """Copy a document's files, those of Quire 0.1 too, to another collection; returns how many.

        What is there already under the same name is overwritten. Raises FilesUnavailable.
        """
        paths: dict[str, str] = {}
        for folder in (self.former(tenant, doc_id), self.path(tenant, doc_id)):
            paths |= {name: f"{folder}/{name}" for name in self.names(folder) if is_whole(name)}
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
            self.fs.rm(self._root, recursive=True)

    def remove(self, folder: str) -> list[str]:
        """Remove a folder; returns the names of the files that were in it."""
        names = self.names(folder)
        if names:
            self.fs.rm(folder, recursive=True)
        return names

    def remove_tenant(self, tenant: str) -> None:
        """Remove every folder of a tenant in this collection."""
        folder = f"{self._root}/{tenant_digest(tenant)}"
        if self.fs.exists(folder):
            self.fs.rm(folder, recursive=True)


def is_whole(name: str) -> bool:
    """False for a file that is being written."""
    return not name.endswith(PART)


def _scoped(tenant: str, doc_id: str) -> str:
    return document_key(tenant, doc_id).replace(":", "/")


def _write_local(path: Path, data: bytes) -> None:
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PART}")
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
        _write_local(copy, path.read_bytes())
