"""Uploaded documents, kept as they came: in a folder or at s3://, through fsspec."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import IO

from cluster.core import Document
from cluster.errors import InvalidInput, TooLarge
from cluster.folders import CHUNK_BYTES, DocumentFiles, folder_key
from cluster.ids import doc_id_of
from cluster.settings import Settings
from cluster.sources import SUFFIXES, absolute_source
from cluster.text.terms import cut_utf8

NAME_BYTES = 200  # file systems take 255
# The last of these are halves of characters, which no UTF-8 can carry.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\:*?\"<>|\ud800-\udfff]+")


@dataclass(frozen=True)
class UploadPlace:
    """Where the sources of a collection's uploads begin: `root` is a folder or a URL."""

    root: str
    collection: str

    def moved_source(self, tenant: str, doc_id: str, source: str, to: "UploadPlace") -> str:
        """Return a document's source once its upload lies at `to`; any other source stays."""
        key = folder_key(tenant, doc_id)
        for former in (f"{self.root}/{self.collection}/{key}/", f"{self.root}/{key}/"):
            if source.startswith(former):
                return f"{to.root}/{to.collection}/{key}/{source.removeprefix(former)}"
        return source

    def has(self, source: str) -> bool:
        """True where a source is an upload of this collection."""
        return source.startswith(f"{self.root}/{self.collection}/")


class Uploads(DocumentFiles):
    """Files by tenant and content; the same bytes are kept once, under their first name."""

    def __init__(self, url: str, collection: str, max_bytes: int) -> None:
        super().__init__(url, collection)
        self._fs = self._folders.fs
        self.place = UploadPlace(self._folders.url, collection)
        self._max_bytes = max_bytes

    @classmethod
    def from_settings(cls, settings: Settings) -> "Uploads":
        return cls(settings.uploads_url, settings.collection, settings.max_document_bytes)

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
        folder = self._folders.path(tenant, doc_id_of(digest.hexdigest()))
        path = self._kept(folder) or self._keep(folder, safe, file)
        return absolute_source(self._fs.unstrip_protocol(path))

    def forget(self, document: Document) -> None:
        """Remove the bytes of a document that was uploaded to this collection."""
        self._folders.remove(self._folders.path(document.tenant, document.doc_id))

    def forget_former(self, document: Document) -> None:
        """Remove the bytes that Quire 0.1 kept, for all collections together."""
        self._folders.remove(self._folders.former(document.tenant, document.doc_id))

    def _kept(self, folder: str) -> str:
        """Return the file of a folder; "" where there is none."""
        names = self._folders.names(folder)
        return f"{folder}/{names[0]}" if names else ""

    def _keep(self, folder: str, name: str, file: IO[bytes]) -> str:
        """Write a file, whole or not at all; others may write the same bytes at the same time."""
        path = f"{folder}/{name}"
        file.seek(0)
        self._folders.write_from(path, file)
        return path


def doc_id_of_upload(source: str) -> str:
    """Return the id of the document that an upload's source holds: its folder's name."""
    return source.rpartition("/")[0].rpartition("/")[2]


def safe_name(name: str) -> str:
    """A file name of 200 bytes at most, without folders, control characters or half characters.

    Raises InvalidInput.
    """
    last = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
    last = _UNSAFE.sub("_", last).strip(" .")
    stem, dot, suffix = last.rpartition(".")
    if not dot or f".{suffix.lower()}" not in SUFFIXES or not stem:
        raise InvalidInput(f"{last[:80]!r}: upload files that end in {', '.join(SUFFIXES)}")
    return f"{cut_utf8(stem, NAME_BYTES - len(suffix) - 1)}.{suffix}"
