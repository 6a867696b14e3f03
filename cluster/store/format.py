"""The format of a stored collection: where it lies in Milvus, and which Quire can read it.

A Quire collection is two collections of Milvus, its pages and its documents; their names carry the
format, and the description of the pages carries it with the fingerprint. Formats:

1: fixed fields only (Quire 0.1.0).
2: fields may be added to rows at any time, so that a new reading of pages needs no new format.

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

FORMAT = 2
_PAGES = re.compile(r"(?P<name>.+)_pages(?:_v(?P<format>\d+))?")


@dataclass(frozen=True)
class StoredCollection:
    """A Quire collection as Milvus has it.

    `fields` are those that its rows must have. Collections of one format may differ in them: the
    newer ones have more, and some only a server can use.
    """

    name: str
    format: int
    fingerprint: Fingerprint
    fields: frozenset[str]

    @property
    def pages(self) -> str:
        """Return the name of its pages and chunks in Milvus."""
        return pages_name(self.name, self.format)

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
        if self.has_keys:
            return entity
        return {name: value for name, value in entity.items() if name not in schema.KEYS}


def pages_name(name: str, format: int = FORMAT) -> str:
    return f"{name}_pages{_suffix(format)}"


def documents_name(name: str, format: int = FORMAT) -> str:
    return f"{name}_documents{_suffix(format)}"


def create_collection(client: Client, name: str, fingerprint: Fingerprint) -> None:
    """Create a Quire collection of today's format: what of it is there already stays."""
    layout = client.layout
    client.create(documents_name(name), *schema.documents_schema(layout))
    pages = schema.pages_schema(fingerprint.dimension, describe_format(fingerprint), layout)
    client.create(pages_name(name), *pages, layout.options)


def remove_collection(client: Client, name: str) -> None:
    """Remove all there is of a Quire collection: its pages first, without which it is not there."""
    for part in sorted(names_in_milvus(client, name), reverse=True):
        client.drop(part)


def describe_format(fingerprint: Fingerprint) -> str:
    """Return the description of a collection of today's format."""
    return json.dumps({"format": FORMAT, "fingerprint": json.loads(fingerprint.to_json())})


def collection_names(client: Client) -> list[str]:
    """Return the names of what may be Quire collections, sorted."""
    return sorted({match["name"] for match in _pages_of(client.names())})


def names_in_milvus(client: Client, name: str) -> set[str]:
    """Every collection of Milvus that is a Quire collection's pages or documents, in any format."""
    parts = re.compile(rf"{re.escape(name)}_(pages|documents)(_v\d+)?")
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
    return _read_collection(client, name, oldest)


def read_collection(client: Client, known: StoredCollection) -> StoredCollection:
    """Read a collection that is known once more. Raises CollectionGone, or InvalidInput."""
    return _read_collection(client, known.name, known.format)


def _read_collection(client: Client, name: str, format: int) -> StoredCollection:
    described = client.describe(pages_name(name, format))
    try:
        content = json.loads(described["description"])
        fingerprint = Fingerprint(**content.get("fingerprint", content))
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"Milvus has a collection {pages_name(name, format)!r} that is not Quire's: name "
            "another with --collection"
        ) from error
    fields = frozenset(field["name"] for field in described["fields"])
    return StoredCollection(name, format, fingerprint, fields)


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
