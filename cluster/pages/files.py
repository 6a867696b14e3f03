"""What is kept of each page beside its rows: image, multi-vectors, words; in a folder or at s3://.

All of a document's files lie in one folder, so that forgetting it forgets them all.
"""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from cluster.core import Document, Hit
from cluster.errors import NotFound
from cluster.folders import DocumentFiles
from cluster.settings import Settings

IMAGE = "jpg"
WORDS = "words"
READ_THREADS = 16  # files of one search that are read side by side


def vectors_kind(model: str, revision: str) -> str:
    """The kind of file that holds multi-vectors of one model: another model's are other files."""
    return f"{hashlib.sha256(f'{model}@{revision}'.encode()).hexdigest()[:12]}.npz"


class PageKey(NamedTuple):
    """What a page's files are found by."""

    tenant: str
    doc_id: str
    page: int

    @classmethod
    def of(cls, hit: Hit) -> "PageKey":
        return cls(hit.tenant, hit.doc_id, hit.page)


class PageFiles(DocumentFiles):
    """The page files of one collection, at `url`; a tenant's lie under a folder of its own."""

    @classmethod
    def from_settings(cls, settings: Settings) -> "PageFiles":
        return cls(settings.page_images_url, settings.collection)

    def put(self, tenant: str, doc_id: str, page: int, data: bytes, kind: str = IMAGE) -> None:
        """Keep a file of a page, whole or not at all. Raises FilesUnavailable."""
        self.put_all({(PageKey(tenant, doc_id, page), kind): data})

    def put_all(self, files: Mapping[tuple[PageKey, str], bytes]) -> None:
        """Keep files by page and kind, each whole or not at all; at s3:// side by side.

        Raises FilesUnavailable.
        """
        self._folders.write_all(
            {
                f"{self._folders.path(key.tenant, key.doc_id)}/{_name(key.page, kind)}": data
                for (key, kind), data in files.items()
            }
        )

    def get(self, tenant: str, doc_id: str, page: int, kind: str = IMAGE) -> bytes:
        """Return the bytes of a page's file. Raises NotFound."""
        for folder in self._folders_of(tenant, doc_id):
            try:
                return self._folders.read(f"{folder}/{_name(page, kind)}")
            except FileNotFoundError:
                continue
        raise NotFound(f"page {page} of document {doc_id} has no .{kind} kept")

    def get_all(self, keys: Sequence[PageKey], kind: str = IMAGE) -> list[bytes | None]:
        """Return the bytes of each page's file, read side by side; None where none is kept."""

        def read(key: PageKey) -> bytes | None:
            try:
                return self.get(*key, kind=kind)
            except NotFound:
                return None

        with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="page-files") as threads:
            return list(threads.map(read, keys))

    def has(self, tenant: str, doc_id: str, page: int, kind: str = IMAGE) -> bool:
        folders = self._folders_of(tenant, doc_id)
        return any(self._folders.fs.exists(f"{folder}/{_name(page, kind)}") for folder in folders)

    def pages(self, document: Document, kind: str = IMAGE) -> set[int]:
        """Return the pages of a document of which such a file is kept."""
        folders = self._folders_of(document.tenant, document.doc_id)
        names = [name.partition(".") for folder in folders for name in self._folders.names(folder)]
        return {int(page) for page, _, suffix in names if suffix == kind and page.isdigit()}

    def forget(self, document: Document) -> int:
        """Remove every file of a document in this collection; returns how many images went."""
        return self._remove(self._folders.path(document.tenant, document.doc_id))

    def forget_former(self, document: Document) -> int:
        """Remove the files that Quire 0.1 kept; returns how many images went."""
        return self._remove(self._folders.former(document.tenant, document.doc_id))

    def _folders_of(self, tenant: str, doc_id: str) -> tuple[str, str]:
        return self._folders.path(tenant, doc_id), self._folders.former(tenant, doc_id)

    def _remove(self, folder: str) -> int:
        return sum(name.endswith(f".{IMAGE}") for name in self._folders.remove(folder))


def _name(page: int, kind: str) -> str:
    return f"{page:06d}.{kind}"
