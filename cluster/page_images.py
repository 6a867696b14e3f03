"""Kept page images, by tenant, document and page: in a folder or at s3://, through fsspec."""

import fsspec

from cluster.core import Document
from cluster.errors import NotFound
from cluster.expressions import document_key


class PageImages:
    """A store of JPEG bytes at `url`; a tenant's images lie under a folder of its own."""

    def __init__(self, url: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)

    def put(self, tenant: str, doc_id: str, page: int, jpeg: bytes) -> None:
        path = self._path(tenant, doc_id, page)
        self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._fs.pipe_file(path, jpeg)

    def get(self, tenant: str, doc_id: str, page: int) -> bytes:
        """The JPEG bytes of a page. Raises NotFound."""
        try:
            return bytes(self._fs.cat_file(self._path(tenant, doc_id, page)))
        except FileNotFoundError as error:
            raise NotFound(f"no image of page {page} of document {doc_id} is kept") from error

    def forget(self, document: Document) -> int:
        """Remove every image of a document; returns how many there were."""
        folder = self._folder(document.tenant, document.doc_id)
        if not self._fs.exists(folder):
            return 0
        count = len(self._fs.find(folder))
        self._fs.rm(folder, recursive=True)
        return count

    def _folder(self, tenant: str, doc_id: str) -> str:
        scope, checked = document_key(tenant, doc_id).split(":")
        return f"{self._root}/{scope}/{checked}"

    def _path(self, tenant: str, doc_id: str, page: int) -> str:
        return f"{self._folder(tenant, doc_id)}/{page:06d}.jpg"
