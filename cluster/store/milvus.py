"""Documents, pages and chunks in Milvus: embedded Milvus Lite or a server, behind one class."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from cluster.core import (
    Document,
    DocumentStatus,
    Filter,
    Fingerprint,
    Hit,
    Mode,
    Page,
    Readings,
    Row,
)
from cluster.errors import (
    FingerprintMismatch,
    FormatMismatch,
    InvalidInput,
    NotFound,
    StoreUnavailable,
)
from cluster.ids import document_key, filter_label, key_of, page_row_id
from cluster.settings import Settings
from cluster.store import schema
from cluster.store.client import (
    SESSION,
    STRONG,
    Client,
    CollectionGone,
    Entity,
    StoreAddress,
    store_token,
)
from cluster.store.conditions import is_one_of, with_any_label
from cluster.store.filters import (
    document_expression,
    to_expression,
    with_labels,
)
from cluster.store.format import (
    StoredCollection,
    collection_names,
    create_collection,
    find_collection,
    read_collection,
)
from cluster.store.fusion import Fusion
from cluster.store.layout import Layout
from cluster.store.listing import like_word, list_documents
from cluster.store.lite import MilvusLiteServer
from cluster.store.ranking import PageRanker
from cluster.store.rows import OF_PAGES, delete_rows, rows_by_id, upsert_rows
from cluster.store.search import FUSED_DEPTH, HIT_FIELDS, Search, search_pages
from cluster.text.terms import to_terms

BATCH_ROWS = 1000  # of documents, at a time
P = ParamSpec("P")
T = TypeVar("T")
MAX_AGE_S = 10.0  # of what a request believes about the collection without looking again
PAGE_FIELDS = [*HIT_FIELDS, "width_px", "height_px"]


@contextmanager
def open_store(settings: Settings, *, patience_s: float = 0) -> Iterator["MilvusStore"]:
    """The store of the settings; an embedded server is joined or started, and left at the end.

    `patience_s`: how long every call waits for a Milvus that is away.
    """
    if not settings.is_embedded:
        token = store_token(settings)
        layout = Layout.from_settings(settings)
        address = StoreAddress(settings.store, settings.collection, token, layout=layout)
        yield MilvusStore(address).patient(patience_s)
        return
    server = MilvusLiteServer(settings.data_dir / "milvus")
    try:
        address = StoreAddress(server.uri, settings.collection)
        yield MilvusStore(address, server.revive).patient(patience_s)
    finally:
        server.close()


@contextmanager
def open_existing_store(settings: Settings) -> Iterator["MilvusStore"]:
    """The same where someone only wants to look: nothing empty is made.

    Raises NotFound where there is no store yet.
    """
    if settings.is_embedded and not settings.data_dir.is_dir():
        raise NotFound(f"there is no store at {settings.store}: quire ingest DIR makes one")
    with open_store(settings) as store:
        yield store


def looks_again(
    read: Callable[Concatenate["MilvusStore", P], T],
) -> Callable[Concatenate["MilvusStore", P], T]:
    """Call a method once more where the collection that it knew was upgraded or dropped since."""

    @wraps(read)
    def call(store: "MilvusStore", /, *args: P.args, **options: P.kwargs) -> T:
        try:
            return read(store, *args, **options)
        except CollectionGone:
            store.forget_what_is_known()
            return read(store, *args, **options)

    return call


class MilvusStore:
    """One Quire collection. Reads see every write that returned before them, unless they say else.

    Those of a request (searches, pages, lists) see what this process wrote, and what others wrote a
    moment later: a server answers them at once, and waits 0.2 to 0.4 s for the others.
    Every method raises StoreUnavailable where Milvus does not answer.
    """

    def __init__(
        self,
        address: StoreAddress,
        revive: Callable[[], None] = lambda: None,
        client: Client | None = None,
    ) -> None:
        """Connect, or use a connection; `revive` starts an embedded server again that ended.

        Raises StoreUnavailable.
        """
        self.address = address
        self.name = address.collection
        self.client = client or Client(address, revive)
        self.revive = revive
        self._cached: StoredCollection | None = None
        self._looked = 0.0  # when, on the monotonic clock

    def patient(self, patience_s: float) -> "MilvusStore":
        """Return this store, whose calls wait for a Milvus that is away from now on.

        Not before: a wrong address is an error at once. Who opens its `address` is as patient.
        """
        self.address = replace(self.address, patience_s=patience_s)
        self.client.be_patient(patience_s)
        return self

    def open_collection(self, fingerprint: Fingerprint, *, chunk_vectors: bool = True) -> None:
        """Create the collection for a fingerprint, or check that it is the one it holds.

        `chunk_vectors`: whether chunks of one that is created have vectors.
        Raises FingerprintMismatch or FormatMismatch.
        """
        if self.stored() is None:
            create_collection(self.client, self.name, fingerprint, chunk_vectors=chunk_vectors)
        self.check_fingerprint(fingerprint)  # another process may have created it first

    def check_fingerprint(self, wanted: Fingerprint) -> None:
        """Raise FingerprintMismatch where the collection is another model's."""
        stored = self.stored()
        if stored is None or stored.fingerprint == wanted:
            return
        empty = "" if self.count_pages() else "; it is empty: `quire collections drop` removes it"
        raise FingerprintMismatch(
            f"collection {self.name!r} is for vectors of {stored.fingerprint}; this command would "
            f"use {wanted}: use the same model and options, or name another collection with "
            f"--collection{empty}"
        )

    def check_still(self, wanted: Fingerprint) -> None:
        """Raise FingerprintMismatch where the collection was dropped and made anew; in one call."""
        if read_collection(self.client, self.required()).fingerprint != wanted:
            self.check_fingerprint(wanted)

    def check_columns(self, columns: Iterable[str]) -> None:
        """Raise FormatMismatch where the collection cannot keep these columns of readings."""
        stored = self.required()
        lacking = sorted(set(columns) - stored.fields)
        if lacking and not stored.can_grow:
            raise FormatMismatch(
                f"collection {self.name!r} was made by an older Quire and cannot keep "
                f"{', '.join(lacking)}: run `quire upgrade` once, which embeds nothing again"
            )

    def fingerprint(self) -> Fingerprint | None:
        """Return the fingerprint of the collection; None where there is no collection yet.

        Raises InvalidInput where a collection of that name is not Quire's, FormatMismatch where
        its format is another Quire's.
        """
        stored = self.stored()
        return stored.fingerprint if stored else None

    def stored(self) -> StoredCollection | None:
        """Look up the collection as Milvus has it now; None where there is none.

        Raises InvalidInput or FormatMismatch, as `fingerprint` does.
        """
        stored = find_collection(self.client, self.name)
        if stored and not stored.fields.issuperset(PAGE_FIELDS):
            raise FormatMismatch(
                f"collection {self.name!r} was made by an older Quire and lacks fields of this "
                "one: run `quire upgrade` once, which embeds nothing again"
            )
        self._cached, self._looked = stored, time.monotonic()
        return stored

    def known(self) -> StoredCollection | None:
        """Return the collection as it was at most MAX_AGE_S ago; None where there is none.

        Raises what `stored` does.
        """
        is_fresh = self._cached and time.monotonic() - self._looked < MAX_AGE_S
        return self._cached if is_fresh else self.stored()

    def forget_what_is_known(self) -> None:
        """Look at the collection again before the next call that needs to know it."""
        self._cached = None

    def collections(self) -> dict[str, Fingerprint]:
        """Return every Quire collection of this store with its fingerprint."""
        fingerprints: dict[str, Fingerprint] = {}
        for name in collection_names(self.client):
            with suppress(InvalidInput, FormatMismatch):  # somebody else's, or a newer Quire's
                stored = find_collection(self.client, name)
                if stored is not None:
                    fingerprints[name] = stored.fingerprint
        return fingerprints

    def collection(self, name: str) -> "MilvusStore":
        """Another collection of the same store, over the same connection."""
        address = replace(self.address, collection=name)
        return MilvusStore(address, self.revive, self.client)

    def put_document(self, document: Document) -> None:
        """Write or overwrite a document's row."""
        self.put_documents([document])

    def put_documents(self, documents: Iterable[Document]) -> None:
        """Write or overwrite the rows of documents, each of which is named once."""
        stored = self.required()
        entities = [stored.fitting(schema.document_entity(document)) for document in documents]
        for start in range(0, len(entities), BATCH_ROWS):
            self.client.upsert(stored.documents, entities[start : start + BATCH_ROWS])

    def write_rows(self, rows: Iterable[Row]) -> None:
        """Write or overwrite page and chunk rows; tried again while Milvus is away."""
        upsert_rows(self.client, self.required(), map(schema.row_entity, rows))

    def document(self, tenant: str, doc_id: str, consistency: str = STRONG) -> Document | None:
        """Return a tenant's document; None where it is not there."""
        key = document_key(tenant, doc_id)
        return self._documents_where(is_one_of("doc_key", [key]), consistency).get(key)

    def stored_documents(self, documents: Iterable[Document]) -> dict[str, Document]:
        """Return what the index has of these documents, by key; those it lacks are left out."""
        keys = {key_of(document) for document in documents}
        return self._documents_where(is_one_of("doc_key", keys)) if keys else {}

    @looks_again
    def documents_of_sources(
        self, tenant: str, sources: Collection[str]
    ) -> dict[str, list[Document]]:
        """Return a tenant's documents of each of these sources; in at most one query."""
        stored = self.known()
        by_source: dict[str, list[Document]] = {source: [] for source in sources}
        if stored is None or not by_source:
            return by_source
        names = {schema.source_key(source): source for source in by_source}
        any_source = (
            is_one_of(schema.SOURCE_KEY, names) if stored.has_keys else with_any_label(names)
        )
        own = document_expression(Filter(tenant=tenant))
        fields = (*stored.document_fields, *([schema.SOURCE_KEY] if stored.has_keys else []))
        expression = f"{any_source} and {own} and {schema.IS_DOCUMENT}"
        for entity in self.client.query_all(stored.documents, expression, fields):
            keys = [entity[schema.SOURCE_KEY]] if stored.has_keys else entity["labels"]
            source = next(names[key] for key in keys if key in names)
            by_source[source].append(schema.to_document(entity))
        return by_source

    @looks_again
    def documents(
        self,
        wanted: Filter = Filter(),
        *,
        source: str | None = None,
        name: str | None = None,
        status: DocumentStatus | None = None,
        mark: str = "",
    ) -> list[Document]:
        """Documents that pass, newest first; `name` is a file's, without its folders.

        Raises InvalidInput.
        """
        stored = self.known()
        if stored is None:
            return []
        parts = [document_expression(wanted), schema.IS_DOCUMENT]
        if source is not None:
            parts.append(with_labels([filter_label("source", source)]))
        if name is not None:
            parts.append(with_labels([filter_label("name", name)]))
        if status is not None:
            parts.append(with_labels([filter_label("status", status)]))
        if mark:
            parts.append(with_labels([mark]))
        expression = " and ".join(filter(None, parts))
        documents = self._documents_where(expression).values()
        return sorted(documents, key=lambda document: (-document.time_ms, document.source))

    @looks_again
    def documents_page(
        self,
        wanted: Filter,
        *,
        status: DocumentStatus | None = None,
        word: str = "",
        limit: int,
        offset: int = 0,
    ) -> tuple[list[Document], int]:
        """Return a page of the documents that pass, newest first, and how many there are.

        `word`: part of a title or file name. Raises InvalidInput.
        """
        stored = self.known()
        if stored is None:
            return [], 0
        parts = [document_expression(wanted), schema.IS_DOCUMENT]
        parts += [with_labels([filter_label("status", status)])] if status else []
        parts += [like_word(stored, word)] if word else []
        expression = " and ".join(filter(None, parts))
        return list_documents(self.client, stored, expression, limit, offset)

    def each_document(
        self, wanted: Filter = Filter(), *, with_error: bool = False
    ) -> Iterator[list[Document]]:
        """Yield every document that passes, in batches and in no order.

        `with_error`: only those of which something is not in the index, and `error` says why.
        """
        stored = self.stored()
        parts = [document_expression(wanted), schema.IS_DOCUMENT]
        parts += ['error != ""'] if with_error else []
        expression = " and ".join(filter(None, parts))
        if stored:
            fields = stored.document_fields
            for entities in self.client.iterate(stored.documents, expression, fields, BATCH_ROWS):
                yield [schema.to_document(entity) for entity in entities]

    def pages_present(self, document: Document) -> set[int]:
        """Return the pages of a document whose rows are in the index."""
        return {entity["page"] for entity in self._page_rows(document, ("page",))}

    @looks_again
    def page_counts(self, documents: Iterable[Document]) -> dict[str, int]:
        """Count the pages in the index of each of these documents, by key."""
        counts = {key_of(document): 0 for document in documents}
        stored = self.known()
        if stored and counts:
            expression = f"{is_one_of('doc_key', counts)} and {OF_PAGES}"
            for row in self.client.query_all(stored.pages, expression, ("doc_key",)):
                counts[row["doc_key"]] += 1
        return counts

    def readings(self, document: Document, columns: Sequence[str]) -> dict[int, Readings]:
        """Return the readings of a document's pages, of these columns; pages without are left out.

        A column that this collection cannot keep is one that was never read.
        """
        stored = self.required()
        known = [name for name in columns if stored.can_grow or name in stored.fields]
        if not known:
            return {}
        rows = self._page_rows(document, ("page", *known))
        readings = {row["page"]: schema.readings_of(row, known) for row in rows}
        return {page: values for page, values in readings.items() if values}

    def page(self, tenant: str, doc_id: str, page: int) -> Page | None:
        """Return a page as its row has it; None where it is not there."""
        row_id = page_row_id(tenant, doc_id, page)
        entity = self._rows([row_id], PAGE_FIELDS, SESSION).get(row_id)
        return schema.to_page(entity) if entity else None

    def has_page(self, tenant: str, doc_id: str, page: int) -> bool:
        """True where a page is in the index."""
        return bool(self._rows([page_row_id(tenant, doc_id, page)], ["page"], SESSION))

    def page_texts(self, hits: Sequence[Hit]) -> list[str]:
        """Return the whole text of each page; "" for one that is not there any more."""
        row_ids = [page_row_id(hit.tenant, hit.doc_id, hit.page) for hit in hits]
        entities = self._rows(row_ids, ["text"], SESSION)
        return [str(entities[row_id]["text"]) if row_id in entities else "" for row_id in row_ids]

    def texts(self, document: Document, pages: Sequence[int]) -> dict[int, str]:
        """Return the texts that are kept of a document's pages, by page."""
        row_ids = {page_row_id(document.tenant, document.doc_id, page): page for page in pages}
        entities = self._rows(row_ids, ["text"])
        return {row_ids[row_id]: str(entity["text"]) for row_id, entity in entities.items()}

    def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers; see what became of the collection."""
        try:
            self.stored()
        except (InvalidInput, FormatMismatch):
            self.forget_what_is_known()  # what is wrong with it is for those who ask for it

    def close(self) -> None:
        """Drop the connection."""
        self.client.close()

    @looks_again
    def count_pages(self, wanted: Filter = Filter()) -> int:
        """Count the pages in the index."""
        stored = self.known()
        expression = " and ".join(filter(None, [to_expression(wanted), OF_PAGES]))
        return self.client.count(stored.pages, expression) if stored else 0

    @looks_again
    def count_documents(self, status: DocumentStatus) -> int:
        """Count the documents that have a status."""
        stored = self.known()
        expression = with_labels([filter_label("status", status)])
        return self.client.count(stored.documents, expression) if stored else 0

    def forget_pages(self, document: Document) -> int:
        """Remove a document's rows but not the document; returns how many went."""
        return self._remove_rows(rows_of(document))

    def is_elsewhere(self, document: Document) -> bool:
        """True where another collection of this store holds the same document."""
        names = [name for name in collection_names(self.client) if name != self.name]
        for name in names:
            with suppress(InvalidInput, FormatMismatch):  # somebody else's, or a newer Quire's
                other = find_collection(self.client, name)
                if other and self.client.count(other.documents, rows_of(document)):
                    return True
        return False

    def trim_pages(self, document: Document, kept: Mapping[int, int]) -> None:
        """Remove the rows of each page beyond the first `kept[page]`; with 0 the page goes."""
        pages_by_kept: dict[int, list[int]] = {}
        for page, rows in kept.items():
            pages_by_kept.setdefault(int(rows), []).append(int(page))
        beyond = " or ".join(
            f"(page in {pages} and chunk >= {rows})" for rows, pages in pages_by_kept.items()
        )
        if beyond:
            self._remove_rows(f"{rows_of(document)} and ({beyond})")

    @looks_again
    def search(
        self,
        *,
        vector: list[float] | None,
        text: str,
        wanted: Filter,
        mode: Mode,
        top_k: int,
        fusion: Fusion = "rrf",
        dense_weight: float = 0.5,
        chunk_vectors: bool = True,
    ) -> list[Hit]:
        """Return the best pages, best first, each with the scores that made its rank.

        `vector` float[dimension] is needed unless mode is "text", `text` unless it is "dense";
        in mode "hybrid" either side may be missing. Without `chunk_vectors` vectors of pages alone
        are searched. Raises InvalidInput.
        """
        use_dense = mode != "text" and vector is not None
        use_text = mode != "dense" and bool(to_terms(text))
        if not use_dense and not use_text:
            raise InvalidInput(f"a search in mode {mode!r} needs text or an image that it can use")
        stored = self.known()
        if stored is None:
            return []
        expression = to_expression(wanted, by_tenant_key=stored.has_keys)
        ranker = PageRanker(self.client, stored, expression, max(top_k, FUSED_DEPTH))
        search = Search(
            vector=vector if use_dense else None,
            terms=to_terms(text) if use_text else "",
            chunk_vectors=chunk_vectors,
            fusion=fusion,
            dense_weight=dense_weight,
            top_k=top_k,
        )
        return search_pages(ranker, search)

    def required(self) -> StoredCollection:
        """Return the collection, which must be there. Raises StoreUnavailable."""
        stored = self._cached or self.stored()
        if stored is None:
            raise StoreUnavailable(
                f"there is no collection {self.name!r}: it was dropped, or nothing was ingested yet"
            )
        return stored

    @looks_again
    def _documents_where(self, expression: str, consistency: str = STRONG) -> dict[str, Document]:
        """Return the documents that pass, by key."""
        stored = self.required()
        fields = ("doc_key", *stored.document_fields)
        entities = self.client.query_all(stored.documents, expression, fields, consistency)
        return {entity["doc_key"]: schema.to_document(entity) for entity in entities}

    @looks_again
    def _rows(
        self, row_ids: Iterable[str], fields: Sequence[str], consistency: str = STRONG
    ) -> dict[str, Entity]:
        """Rows by ids that came out of the index, or that we made."""
        return rows_by_id(self.client, self.required(), row_ids, fields, consistency)

    @looks_again
    def _page_rows(self, document: Document, fields: Sequence[str]) -> list[Entity]:
        """Return the page rows of a document, without those of its chunks."""
        stored = self.known()
        expression = f"{rows_of(document)} and {OF_PAGES}"
        return self.client.query_all(stored.pages, expression, fields) if stored else []

    @looks_again
    def _remove_rows(self, expression: str) -> int:
        """Remove page and chunk rows; returns how many. Where there are none it costs a count."""
        stored = self.known()
        return delete_rows(self.client, stored, expression) if stored else 0


def rows_of(document: Document) -> str:
    """Return the expression for a document and its rows."""
    return is_one_of("doc_key", [key_of(document)])
