"""The format of a stored collection: where it lies in Milvus, and which Quire can read it.

A Quire collection is three collections of Milvus, its pages, their chunks and its documents; their
names carry the format, and the description of the pages carries it with the fingerprint. Formats:

1: fixed fields only (Quire 0.1.0).
2: fields may be added to rows at any time, so that a new reading of pages needs no new format.
3: chunks have a collection of their own, with vectors or without; before, they lay among the pages.

`cluster/store/upgrade.py` copies an older format beside itself and then drops the old one, so where
two formats of a collection are there, the older one is whole and counts. A collection that is
filled by a copy or a restore carries a mark (`cluster/store/unfinished.py`) until it is whole.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.core import Fingerprint
from cluster.errors import FormatMismatch, InvalidInput
from cluster.store import schema
from cluster.store.client import Client, Entity
from cluster.store.unfinished import mark_name, read_mark

FORMAT = 3
_PAGES = re.compile(r"(?P<name>.+)_pages(?:_v(?P<format>\d+))?")


@dataclass(frozen=True)
class StoredCollection:
    """A Quire collection as Milvus has it.

    `fields` are those that its rows must have. Collections of one format may differ in them: the
    newer ones have more, and some only a server can use. Without `chunk_vectors`, chunks are found
    by full text alone.
    """

    name: str
    format: int
    fingerprint: Fingerprint
    fields: frozenset[str]
    chunk_vectors: bool = True

    @property
    def pages(self) -> str:
        """Return the name of its pages in Milvus."""
        return pages_name(self.name, self.format)

    @property
    def chunks(self) -> str:
        """Return the name of its chunks in Milvus."""
        return chunks_name(self.name, self.format)

    @property
    def has_chunk_table(self) -> bool:
        """True where chunks do not lie among the pages."""
        return self.format >= 3

    @property
    def tables(self) -> tuple[str, ...]:
        """Return the names of what holds rows in Milvus; chunks before the pages they are of."""
        return (self.chunks, self.pages) if self.has_chunk_table else (self.pages,)

    @property
    def documents(self) -> str:
        """Return the name of its documents in Milvus."""
        return documents_name(self.name, self.format)

    @property
    def can_grow(self) -> bool:
        """True where rows may carry fields that the schema does not name."""
        return self.format >= 2

    @property
    def has_keys(self) -> bool:
        """True where rows have their page's and tenant's key, and documents their marks."""
        return schema.PAGE_KEY in self.fields

    @property
    def document_fields(self) -> tuple[str, ...]:
        """Return the fields that a document is made of."""
        return (*schema.DOCUMENT_FIELDS, self.marks_field)

    @property
    def marks_field(self) -> str:
        """Return the field in which documents have their marks."""
        return schema.MARKS if self.has_keys else "labels"

    def fitting(self, entity: Entity) -> Entity:
        """Return a row, or a document's, without what this collection has no field for."""
        surplus = frozenset() if self.has_keys else schema.KEYS
        if entity.get("chunk") and not self.chunk_vectors:
            surplus |= {"vector"}
        return {name: value for name, value in entity.items() if name not in surplus}


def pages_name(name: str, format: int = FORMAT) -> str:
    return f"{name}_pages{_suffix(format)}"


def chunks_name(name: str, format: int = FORMAT) -> str:
    return f"{name}_chunks{_suffix(format)}" if format >= 3 else pages_name(name, format)


def documents_name(name: str, format: int = FORMAT) -> str:
    return f"{name}_documents{_suffix(format)}"


def create_collection(
    client: Client, name: str, fingerprint: Fingerprint, *, chunk_vectors: bool = True
) -> None:
    """Create a Quire collection of today's format: what of it is there already stays."""
    layout, dimension = client.layout, fingerprint.dimension
    client.create(documents_name(name), *schema.documents_schema(layout))
    chunks = schema.rows_schema(dimension if chunk_vectors else None, "", layout)
    client.create(chunks_name(name), *chunks, layout.options)
    description = describe_format(fingerprint, chunk_vectors=chunk_vectors)
    # Last: where there are pages, there is a collection.
    pages = schema.rows_schema(dimension, description, layout)
    client.create(pages_name(name), *pages, layout.options)


def remove_collection(client: Client, name: str) -> None:
    """Remove all there is of a Quire collection: its pages first, without which it is not there."""
    for part in sorted(names_in_milvus(client, name), reverse=True):
        client.drop(part)


def describe_format(fingerprint: Fingerprint, *, chunk_vectors: bool = True) -> str:
    """Return the description of a collection of today's format."""
    described = {"fingerprint": json.loads(fingerprint.to_json()), "chunk_vectors": chunk_vectors}
    return json.dumps({"format": FORMAT, **described})


def collection_names(client: Client) -> list[str]:
    """Return the names of what may be Quire collections, sorted."""
    return sorted({match["name"] for match in _pages_of(client.names())})


def names_in_milvus(client: Client, name: str) -> set[str]:
    """Return what is a Quire collection's pages, chunks or documents in Milvus, in any format."""
    parts = re.compile(rf"{re.escape(name)}_(pages|chunks|documents)(_v\d+)?")
    return {other for other in client.names() if parts.fullmatch(other)}


def find_collection(client: Client, name: str) -> StoredCollection | None:
    """Return a Quire collection by name; None where there is none.

    Raises FormatMismatch where a newer Quire made it, InvalidInput where it is not Quire's or is
    not whole yet.
    """
    names = client.names()
    formats = _formats(names, name)
    if not formats:
        return None
    if mark_name(name) in names:
        _check_whole(client, name, names)
    oldest = min(formats)
    if oldest > FORMAT:
        raise FormatMismatch(
            f"collection {name!r} has format {oldest} and this Quire reads up to {FORMAT}: use the "
            "newer Quire that made it"
        )
    return read_format(client, name, oldest)


def read_collection(client: Client, known: StoredCollection) -> StoredCollection:
    """Read a collection that is known once more. Raises CollectionGone, or InvalidInput."""
    return read_format(client, known.name, known.format)


def read_format(client: Client, name: str, format: int = FORMAT) -> StoredCollection:
    """Read a collection of one format. Raises CollectionGone, or InvalidInput."""
    described = client.describe(pages_name(name, format))
    try:
        content = json.loads(described["description"])
        fingerprint = Fingerprint(**content.get("fingerprint", content))
        chunk_vectors = bool(content.get("chunk_vectors", True))
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"Milvus has a collection {pages_name(name, format)!r} that is not Quire's: name "
            "another with --collection"
        ) from error
    fields = frozenset(field["name"] for field in described["fields"])
    return StoredCollection(name, format, fingerprint, fields, chunk_vectors)


def _check_whole(client: Client, name: str, names: list[str]) -> None:
    """Raise InvalidInput where rows of a collection are still missing.

    Of one that is renamed, the copy is whole once the pages of the former name are gone.
    """
    mark = read_mark(client, name)
    if mark and (mark.filling != "rename" or _formats(names, mark.source)):
        raise InvalidInput(
            f"collection {name!r} is not whole, for its {mark.filling} did not end: "
            f"{mark.to_do(name)}, or remove it by `quire collections drop {name}`"
        )


def _formats(names: Iterable[str], name: str) -> list[int]:
    return [_format_of(match) for match in _pages_of(names) if match["name"] == name]


def _pages_of(names: Iterable[str]) -> list[re.Match[str]]:
    return [match for name in names if (match := _PAGES.fullmatch(name))]


def _format_of(match: re.Match[str]) -> int:
    return int(match["format"] or 1)


def _suffix(format: int) -> str:
    return "" if format == 1 else f"_v{format}"
