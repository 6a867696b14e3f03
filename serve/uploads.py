"""Uploaded documents, kept as they came: in a folder or at s3://, through fsspec."""

import hashlib
import re
import unicodedata
from typing import IO

import fsspec

from cluster.core import Document, doc_id_of
from cluster.errors import InvalidInput, TooLarge
from cluster.expressions import document_key
from cluster.sources import SUFFIXES, absolute_source

NAME_CHARS = 120
CHUNK_BYTES = 2**20
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\:*?\"<>|]+")


class Uploads:
    """Files by tenant and content; the same bytes are kept once, under their first name."""

    def __init__(self, url: str, max_bytes: int) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._max_bytes = max_bytes

    def put(self, tenant: str, name: str, file: IO[bytes]) -> str:
        """Keep a file; returns its source for an ingest. Raises InvalidInput or TooLarge."""
        safe = safe_name(name)
        digest = hashlib.sha256()
        size = 0
        while chunk := file.read(CHUNK_BYTES):
            size += len(chunk)
            digest.update(chunk)
        if not size:
            raise InvalidInput(f"{safe} is empty")
        if size > self._max_bytes:
            raise TooLarge(f"{safe} is over {self._max_bytes:,} bytes: raise max_document_bytes")
        folder = self._folder(tenant, doc_id_of(digest.hexdigest()))
        kept = self._fs.find(folder) if self._fs.exists(folder) else []
        path = kept[0] if kept else f"{folder}/{safe}"
        if not kept:
            file.seek(0)
            self._fs.makedirs(folder, exist_ok=True)
            with self._fs.open(f"{folder}.part", "wb") as draft:
                while chunk := file.read(CHUNK_BYTES):
                    draft.write(chunk)
            self._fs.mv(f"{folder}.part", path)
        return absolute_source(self._fs.unstrip_protocol(path))

    def forget(self, document: Document) -> None:
        """Remove the bytes of a document that was uploaded."""
        folder = self._folder(document.tenant, document.doc_id)
        if self._fs.exists(folder):
            self._fs.rm(folder, recursive=True)

    def _folder(self, tenant: str, doc_id: str) -> str:
        scope, checked = document_key(tenant, doc_id).split(":")
        return f"{self._root}/{scope}/{checked}"


def safe_name(name: str) -> str:
    """A file name without folders or control characters. Raises InvalidInput."""
    last = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
    last = _UNSAFE.sub("_", last).strip(" .")
    stem, dot, suffix = last.rpartition(".")
    if not dot or f".{suffix.lower()}" not in SUFFIXES or not stem:
        raise InvalidInput(f"{last[:80]!r}: upload files that end in {', '.join(SUFFIXES)}")
    return f"{stem[: NAME_CHARS - len(suffix)]}.{suffix}"
