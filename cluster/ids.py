"""Identities: of documents by their bytes, of rows by tenant, document, page and chunk; labels."""

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Literal

from cluster.core import DOC_ID_CHARS, Document, Scalar
from cluster.errors import InvalidInput

LABEL_CHARS = 24
SCOPE_CHARS = 12
MarkKind = Literal["ingest", "stamp", "chunks", "readings"]
_MARKS: dict[MarkKind, str] = {"ingest": "i", "stamp": "s", "chunks": "r", "readings": "q"}
_DOC_ID = re.compile(rf"[0-9a-f]{{{DOC_ID_CHARS}}}")


def filter_label(kind: str, *values: Scalar) -> str:
    """Return the digest under which a value can be found, hex."""
    # JSON keeps 1, "1" and true apart.
    return hashlib.sha256(json.dumps([kind, *values]).encode()).hexdigest()[:LABEL_CHARS]


def document_key(tenant: str, doc_id: str) -> str:
    """Return the identity of a document within its tenant: `{tenant digest}:{doc_id}`.

    Two tenants may hold the same bytes; neither may touch the other's. Raises InvalidInput.
    """
    return f"{tenant_digest(tenant)}:{checked_doc_id(doc_id)}"


def tenant_digest(tenant: str) -> str:
    """Return what stands for a tenant in keys and paths, hex."""
    return filter_label("tenant", tenant)[:SCOPE_CHARS]


def key_of(document: Document) -> str:
    """Return the identity of a document. Raises InvalidInput."""
    return document_key(document.tenant, document.doc_id)


def page_row_id(tenant: str, doc_id: str, page: int, chunk: int = 0) -> str:
    """Return the identity of a page's row, or of a chunk's. Raises InvalidInput."""
    return f"{document_key(tenant, doc_id)}:{int(page)}:{int(chunk)}"


def mark(kind: MarkKind, value: str) -> str:
    """Return the digest of a fact about a document that is only ever compared.

    It begins with a letter that is no hex digit, so that it cannot be taken for a label.
    """
    return f"{_MARKS[kind]}{filter_label(kind, value)[1:]}"


def find_mark(marks: Iterable[str], kind: MarkKind) -> str:
    """Return the mark of a kind; "" where there is none."""
    return next((each for each in marks if each.startswith(_MARKS[kind])), "")


def replace_mark(marks: Iterable[str], kind: MarkKind, new: str) -> tuple[str, ...]:
    """Return marks with another one of a kind; with "" without any."""
    others = [each for each in marks if not each.startswith(_MARKS[kind])]
    return (*others, new) if new else tuple(others)


def is_mark(label: str) -> bool:
    return label[:1] in _MARKS.values()


def checked_doc_id(doc_id: str) -> str:
    if not _DOC_ID.fullmatch(doc_id):
        raise InvalidInput(
            f"{doc_id[:80]!r} is not a document id: expected {DOC_ID_CHARS} hex digits, as "
            "`quire documents` prints them"
        )
    return doc_id


def doc_id_of(sha256: str) -> str:
    """Same bytes, same id."""
    return sha256[:DOC_ID_CHARS]


def item_digest(record_set: str, item: str) -> str:
    """Return what stands for the sha256 of an item: of its record set's name and its own id."""
    return hashlib.sha256(json.dumps(["item", record_set, item]).encode()).hexdigest()


def sha256_of(path: str) -> str:
    """Return the sha256 of a regular file's bytes, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
