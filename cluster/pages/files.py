"""What is kept of each page beside its rows: image, multi-vectors, words; in a folder or at s3://.

All of a document's files lie in one folder, so that forgetting it forgets them all.
"""

import hashlib
from typing import NamedTuple

import fsspec

from cluster.core import Document, Hit
from cluster.errors import NotFound
from cluster.ids import document_key

IMAGE = "jpg"
WORDS = "words"


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


class PageFiles:
    """A store of bytes at `url`; a tenant's files lie under a folder of its own."""

    def __init__(self, url: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)

    def put(self, tenant: str, doc_id: str, page: int, data: bytes, kind: str = IMAGE) -> None:
        path = self._path(tenant, doc_id, page, kind)
        self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._fs.pipe_file(path, data)

    def get(self, tenant: str, doc_id: str, page: int, kind: str = IMAGE) -> bytes:
        """Return the bytes of a page's file. Raises NotFound."""
        try:
            return bytes(self._fs.cat_file(self._path(tenant, doc_id, page, kind)))
        except FileNotFoundError as error:
            raise NotFound(f"page {page} of document {doc_id} has no .{kind} kept") from error

    def has(self, tenant: str, doc_id: str, page: int, kind: str = IMAGE) -> bool:
        return bool(self._fs.exists(self._path(tenant, doc_id, page, kind)))

    def pages(self, document: Document, kind: str) -> set[int]:
        """Return the pages of a document of which such a file is kept."""
        folder = self._folder(document.tenant, document.doc_id)
        if not self._fs.exists(folder):
            return set()
        names = [path.rpartition("/")[2].partition(".") for path in self._fs.find(folder)]
        return {int(page) for page, _, suffix in names if suffix == kind and page.isdigit()}

    def forget(self, document: Document) -> int:
        """Remove every file of a document; returns how many images there were."""
        folder = self._folder(document.tenant, document.doc_id)
        if not self._fs.exists(folder):
            return 0
        images = [path for path in self._fs.find(folder) if path.endswith(f".{IMAGE}")]
        self._fs.rm(folder, recursive=True)
        return len(images)

    def _folder(self, tenant: str, doc_id: str) -> str:
        scope, checked = document_key(tenant, doc_id).split(":")
        return f"{self._root}/{scope}/{checked}"

    def _path(self, tenant: str, doc_id: str, page: int, kind: str) -> str:
        return f"{self._folder(tenant, doc_id)}/{page:06d}.{kind}"
