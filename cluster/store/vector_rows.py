"""Rows of a collection with their vectors, in batches, for work outside of Quire."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cluster.core import Filter, Scalar, page_id
from cluster.errors import InvalidInput, NotFound
from cluster.store.client import Entity
from cluster.store.filters import to_expression
from cluster.store.format import StoredCollection
from cluster.store.milvus import MilvusStore
from cluster.store.ranking import OF_CHUNKS, OF_PAGES

RowKind = Literal["pages", "chunks", "all"]


@dataclass(frozen=True)
class VectorRow:
    """A page (`chunk` 0) or a chunk of its text, with its vector float32[dimension]."""

    doc_id: str
    page: int
    chunk: int
    title: str
    source: str
    tenant: str
    tags: tuple[str, ...]
    metadata: dict[str, Scalar]
    text: str
    vector: np.ndarray

    @property
    def id(self) -> str:
        """Return the page's id, for a chunk with its number: `3f…:12`, `3f…:12:1`."""
        page = page_id(self.doc_id, self.page)
        return f"{page}:{self.chunk}" if self.chunk else page


class VectorRows:
    """The rows of one collection that pass a filter. Milvus is asked for a batch at a time."""

    def __init__(self, store: MilvusStore, wanted: Filter, kind: RowKind) -> None:
        """Raises NotFound without a collection, InvalidInput where its chunks have no vectors."""
        stored = store.stored()
        if stored is None:
            raise NotFound(f"there is no collection {store.name!r}: quire ingest DIR makes one")
        if kind != "pages" and not stored.chunk_vectors:
            raise InvalidInput(
                f"chunks of {store.name!r} have no vectors: export its pages (--rows pages)"
            )
        self.fingerprint = stored.fingerprint
        self._client = store.client
        self._parts = _parts(stored, wanted, kind)

    def count(self) -> int:
        return sum(self._client.count(name, expression) for name, expression in self._parts)

    def __iter__(self) -> Iterator[list[VectorRow]]:
        for name, expression in self._parts:
            for entities in self._client.whole_rows(name, expression):
                yield list(map(_to_row, entities))


def _parts(stored: StoredCollection, wanted: Filter, kind: RowKind) -> list[tuple[str, str]]:
    """Return (collection of Milvus, expression) of each kind of rows."""
    own = to_expression(wanted, by_tenant_key=stored.has_keys)
    tables = {"pages": (stored.pages, OF_PAGES), "chunks": (stored.chunks, OF_CHUNKS)}
    kinds = ["pages", "chunks"] if kind == "all" else [kind]
    return [
        (name, " and ".join(filter(None, [own, expression])))
        for name, expression in (tables[each] for each in kinds)
    ]


def _to_row(entity: Entity) -> VectorRow:
    names = ("doc_id", "page", "chunk", "title", "source", "tenant", "text")
    return VectorRow(
        **{name: entity[name] for name in names},
        tags=tuple(entity["tags"]),
        metadata=dict(entity["metadata"]),
        vector=np.asarray(entity["vector"], np.float32),
    )
