"""Documents, pages and chunks in Milvus: embedded Milvus Lite or a server, behind one class."""

import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from cluster.core import Document, DocumentStatus, Filter, Fingerprint, Hit, Mode, Page, Row
from cluster.errors import FingerprintMismatch, InvalidInput, StoreUnavailable
from cluster.settings import Settings
from cluster.store import schema
from cluster.store.filters import (
    document_key,
    label,
    page_row_id,
    to_expression,
    with_labels,
)
from cluster.store.fusion import Fusion, fuse
from cluster.store.lite import MilvusLiteServer
from cluster.text.terms import to_terms

MILVUS_PORT = 19530
CALL_TIMEOUT_S = 30.0
# pymilvus pings every 10 s; Milvus Lite takes that for an attack and hangs up.
GRPC_OPTIONS = {"grpc.keepalive_time_ms": 300_000, "grpc.keepalive_permit_without_calls": False}
WRITE_ATTEMPTS = 6
WRITE_BACKOFF_S = 0.5
WRITE_ROWS = 256  # in one message: Milvus takes 64 MB, and a row of the 8B has 20 KB
QUERY_ROWS = 16_384  # the most rows Milvus returns at once
FUSED_DEPTH = 100  # pages of each ranking that take part in the fusion
ROWS_PER_PAGE = 6  # a guess: the page row and some chunks; asked again where it was too low
HIT_FIELDS = ["doc_id", "page", "chunk", "title", "source", "text", "tenant", "tags", "metadata"]
HIT_FIELDS += ["expected_cer"]
PAGE_FIELDS = [*HIT_FIELDS, "width_px", "height_px"]

T = TypeVar("T")


@dataclass(frozen=True)
class StoreAddress:
    """How any process of a job reaches the store."""

    uri: str
    collection: str
    token: str = field(default="", repr=False)
    timeout_s: float = CALL_TIMEOUT_S


@contextmanager
def open_store(settings: Settings) -> Iterator["MilvusStore"]:
    """The store of the settings; an embedded server is joined or started, and left at the end."""
    if not settings.is_embedded:
        token = store_token(settings)
        yield MilvusStore(StoreAddress(settings.store, settings.collection, token))
        return
    server = MilvusLiteServer(settings.data_dir / "milvus")
    try:
        yield MilvusStore(StoreAddress(server.uri, settings.collection))
    finally:
        server.close()


def store_token(settings: Settings) -> str:
    """How a remote Milvus knows us: a token, or user:password."""
    token = settings.store_token.get_secret_value()
    return f"{settings.store_user}:{token}" if settings.store_user else token


class MilvusStore:
    """One Quire collection. Reads see every write that returned before them."""

    def __init__(self, address: StoreAddress) -> None:
        """Connect. Raises StoreUnavailable."""
        self.address = address
        self._pages = f"{address.collection}_pages"
        self._documents = f"{address.collection}_documents"
        # It logs a traceback for every error that it also raises.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        _probe(address.uri)
        self._client = _guard(
            lambda: MilvusClient(
                uri=address.uri,
                token=address.token,
                timeout=address.timeout_s,
                grpc_options=GRPC_OPTIONS,
            )
        )

    def open_collection(self, fingerprint: Fingerprint) -> None:
        """Create the collection for a fingerprint, or check that it is the one it holds.

        One without pages takes another fingerprint.

        Raises FingerprintMismatch.
        """
        held = self.fingerprint()
        if held not in (None, fingerprint) and not self.count_pages():
            # Whatever was to fill it never did: an ingest whose model could not be loaded.
            _guard(lambda: self._client.drop_collection(self._pages))
            held = None
        if held is None:
            self._create(self._documents, *schema.documents_schema())
            pages = schema.pages_schema(fingerprint.dimension, fingerprint.to_json())
            self._create(self._pages, *pages)
        self.check_fingerprint(fingerprint)  # another process may have created it first

    def check_fingerprint(self, wanted: Fingerprint) -> None:
        """Raise FingerprintMismatch where the collection is another model's."""
        held = self.fingerprint()
        if held is not None and held != wanted:
            raise FingerprintMismatch(
                f"collection {self.address.collection!r} holds vectors of {held}; this command "
                f"would use {wanted}: use the same model and options, or name another "
                "collection with --collection"
            )

    def fingerprint(self) -> Fingerprint | None:
        """The fingerprint of the collection; None where there is no collection yet.

        Raises InvalidInput where a collection of that name is not Quire's, FingerprintMismatch
        where it is an older Quire's.
        """
        timeout_s = self.address.timeout_s
        if not _guard(lambda: self._client.has_collection(self._pages, timeout=timeout_s)):
            return None
        described = _guard(lambda: self._client.describe_collection(self._pages, timeout=timeout_s))
        try:
            held = Fingerprint.from_json(described["description"])
        except (ValueError, TypeError) as error:
            raise InvalidInput(
                f"Milvus has a collection {self._pages!r} that is not Quire's: name another with "
                "--collection"
            ) from error
        if not {field["name"] for field in described["fields"]}.issuperset(PAGE_FIELDS):
            raise FingerprintMismatch(
                f"collection {self.address.collection!r} was made by an older Quire and lacks "
                "fields of this one: ingest into another one with --collection"
            )
        return held

    def collections(self) -> dict[str, Fingerprint]:
        """Every Quire collection of this store with its fingerprint."""
        names = [
            name.removesuffix("_pages")
            for name in _guard(self._client.list_collections)
            if name.endswith("_pages")
        ]
        found: dict[str, Fingerprint] = {}
        for name in sorted(names):
            with suppress(InvalidInput):  # somebody else's collection
                held = self.collection(name).fingerprint()
                if held is not None:
                    found[name] = held
        return found

    def collection(self, name: str) -> "MilvusStore":
        """Another collection of the same store."""
        return MilvusStore(replace(self.address, collection=name))

    def put_document(self, document: Document) -> None:
        """Write or overwrite a document's row."""
        self._upsert(self._documents, [schema.document_entity(document)])

    def write_rows(self, rows: Iterable[Row]) -> None:
        """Write or overwrite page and chunk rows. Raises StoreUnavailable after several tries."""
        entities = [schema.row_entity(row) for row in rows]
        for start in range(0, len(entities), WRITE_ROWS):
            self._upsert(self._pages, entities[start : start + WRITE_ROWS])

    def document(self, tenant: str, doc_id: str) -> Document | None:
        """A tenant's document."""
        expression = f'doc_key in ["{document_key(tenant, doc_id)}"]'
        found = self._query(self._documents, expression, schema.DOCUMENT_FIELDS)
        return schema.to_document(found[0]) if found else None

    def documents(
        self,
        wanted: Filter = Filter(),
        *,
        source: str | None = None,
        status: DocumentStatus | None = None,
    ) -> list[Document]:
        """Documents that pass, newest first."""
        parts = [to_expression(wanted)]
        if source is not None:
            parts.append(with_labels([label("source", source)]))
        if status is not None:
            parts.append(with_labels([label("status", status)]))
        entities = self._all(
            self._documents, " and ".join(filter(None, parts)), schema.DOCUMENT_FIELDS
        )
        found = [schema.to_document(entity) for entity in entities]
        return sorted(found, key=lambda document: (-document.time_ms, document.source))

    def pages_present(self, document: Document, *, read: bool = False) -> set[int]:
        """The pages whose rows are in the index as this document would write them.

        With `read` only those whose CER was predicted.
        """
        expression = f"{_rows_of(document)} and chunk == 0"
        if read:
            expression += " and expected_cer >= 0"
        fields = ("page", "tags", "metadata", "source")
        stored = schema.row_facts(document)
        return {
            entity["page"]
            for entity in self._all(self._pages, expression, fields)
            if (list(entity["tags"]), dict(entity["metadata"]), entity["source"]) == stored
        }

    def expected_cers(self, document: Document) -> dict[int, float]:
        """What was predicted for pages of a document."""
        expression = f"{_rows_of(document)} and chunk == 0 and expected_cer >= 0"
        rows = self._all(self._pages, expression, ("page", "expected_cer"))
        return {row["page"]: float(row["expected_cer"]) for row in rows}

    def page(self, tenant: str, doc_id: str, page: int) -> Page | None:
        """One page, as its row has it."""
        row_id = page_row_id(tenant, doc_id, page)
        found = self._rows([row_id], PAGE_FIELDS).get(row_id)
        return schema.to_page(found) if found else None

    def has_page(self, tenant: str, doc_id: str, page: int) -> bool:
        """Whether a page is in the index."""
        return bool(self._rows([page_row_id(tenant, doc_id, page)], ["page"]))

    def page_texts(self, hits: Sequence[Hit]) -> list[str]:
        """The whole text of each page; "" for one that is not there any more."""
        row_ids = [page_row_id(hit.tenant, hit.doc_id, hit.page) for hit in hits]
        found = self._rows(row_ids, ["text"])
        return [str(found[row_id]["text"]) if row_id in found else "" for row_id in row_ids]

    def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers."""
        _guard(lambda: self._client.has_collection(self._pages, timeout=self.address.timeout_s))

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()

    def count_pages(self, wanted: Filter = Filter()) -> int:
        """How many pages are in the index."""
        return self._count(self._pages, [to_expression(wanted), "chunk == 0"])

    def count_documents(self, status: DocumentStatus) -> int:
        """How many documents have a status."""
        return self._count(self._documents, [with_labels([label("status", status)])])

    def forget(self, document: Document) -> int:
        """Remove a document and its rows; returns how many page and chunk rows went."""
        rows = self.forget_pages(document)
        self._delete(self._documents, _rows_of(document))
        return rows

    def forget_pages(self, document: Document) -> int:
        """Remove a document's rows but not the document; returns how many went."""
        return self._remove_rows(_rows_of(document))

    def trim_pages(self, document: Document, kept: Mapping[int, int]) -> None:
        """Remove the rows of each page beyond the first `kept[page]`; with 0 the page goes.

        Raises StoreUnavailable after several tries.
        """
        pages_by_kept: dict[int, list[int]] = {}
        for page, rows in kept.items():
            pages_by_kept.setdefault(int(rows), []).append(int(page))
        beyond = " or ".join(
            f"(page in {pages} and chunk >= {rows})" for rows, pages in pages_by_kept.items()
        )
        if beyond:
            self._patiently(lambda: self._remove_rows(f"{_rows_of(document)} and ({beyond})"))

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
    ) -> list[Hit]:
        """The best pages, best first, each with the scores that made its rank.

        `vector` float[dimension] is needed unless mode is "text", `text` unless it is "dense";
        in mode "hybrid" either side may be missing. Raises InvalidInput.
        """
        use_dense = mode != "text" and vector is not None
        use_text = mode != "dense" and bool(to_terms(text))
        if not use_dense and not use_text:
            raise InvalidInput(f"a search in mode {mode!r} needs text or an image that it can use")
        if self._count(self._pages, []) == 0:  # Milvus Lite cannot weigh terms of no text at all
            return []
        expression = to_expression(wanted)
        depth = max(top_k, FUSED_DEPTH) if use_dense and use_text else top_k
        dense = self._nearest("vector", vector, expression, depth) if use_dense else {}
        matching = self._nearest("sparse", to_terms(text), expression, depth) if use_text else {}
        order = list(dense or matching)
        fused: dict[str, float] = {}
        if use_dense and use_text:
            fused = fuse(_scores(dense), _scores(matching), fusion, dense_weight)
            order = sorted(fused, key=lambda page: (-fused[page], page))
        # The text side shows the chunk that matched.
        shown = {page: (matching.get(page) or dense[page]).row_id for page in order[:top_k]}
        entities = self._rows(shown.values())
        return [
            _to_hit(entities[row_id], dense.get(page), matching.get(page), fused.get(page))
            for page, row_id in shown.items()
            if row_id in entities  # forgotten since
        ]

    def _nearest(self, field: str, target: Any, expression: str, pages: int) -> dict[str, "_Found"]:
        """The best `pages` pages by one field, best first; a page scores as its best row."""
        rows = min(QUERY_ROWS, pages * ROWS_PER_PAGE)
        while True:
            found = self._search(field, target, expression, rows)
            best: dict[str, _Found] = {}
            for row in found:
                page = row.id.rpartition(":")[0]
                best.setdefault(page, _Found(row.id, row.distance))
            if len(best) >= pages or len(found) < rows or rows == QUERY_ROWS:
                return dict(islice(best.items(), pages))
            rows = min(QUERY_ROWS, rows * 4)

    def _search(self, field: str, target: Any, expression: str, rows: int) -> list[Any]:
        """Ids and scores only: to fetch a row's fields costs Milvus Lite more than to find it."""
        found = _guard(
            lambda: self._client.search(
                self._pages,
                [target],
                anns_field=field,
                filter=expression,
                limit=rows,
                consistency_level="Strong",
                timeout=self.address.timeout_s,
            )
        )
        return list(found[0])

    def _rows(
        self, row_ids: Iterable[str], fields: Sequence[str] = HIT_FIELDS
    ) -> dict[str, dict[str, Any]]:
        """Rows by ids that came out of the index, or that we made."""
        quoted = ", ".join(f'"{row_id}"' for row_id in row_ids)
        if not quoted:
            return {}
        entities = self._query(self._pages, f"row_id in [{quoted}]", ["row_id", *fields])
        return {entity["row_id"]: entity for entity in entities}

    def _create(self, name: str, collection_schema: Any, index: Any) -> None:
        if not _guard(lambda: self._client.has_collection(name)):
            _guard(
                lambda: self._client.create_collection(
                    name,
                    schema=collection_schema,
                    index_params=index,
                    consistency_level="Strong",
                )
            )

    def _upsert(self, name: str, entities: list[dict[str, Any]]) -> None:
        self._patiently(
            lambda: _guard(
                lambda: self._client.upsert(name, entities, timeout=self.address.timeout_s)
            )
        )

    def _patiently(self, write: Callable[[], object]) -> None:
        """A server that restarts is back in seconds, and our writes may be repeated."""
        for attempt in range(WRITE_ATTEMPTS):
            try:
                write()
                return
            except StoreUnavailable:
                if attempt == WRITE_ATTEMPTS - 1:
                    raise
                time.sleep(WRITE_BACKOFF_S * 2**attempt)

    def _remove_rows(self, expression: str) -> int:
        """Remove page and chunk rows; returns how many. Where there are none it costs a count."""
        rows = self._count(self._pages, [expression])
        if rows:
            self._delete(self._pages, expression)
        return rows

    def _delete(self, name: str, expression: str) -> None:
        _guard(lambda: self._client.delete(name, filter=expression, timeout=self.address.timeout_s))

    def _count(self, name: str, parts: list[str]) -> int:
        if self.fingerprint() is None:
            return 0
        found = self._query(name, " and ".join(filter(None, parts)), ["count(*)"], limit=None)
        return int(found[0]["count(*)"])

    def _query(
        self, name: str, expression: str, fields: Sequence[str], limit: int | None = QUERY_ROWS
    ) -> list[dict[str, Any]]:
        bound = {} if limit is None else {"limit": limit}
        return list(
            _guard(
                lambda: self._client.query(
                    name,
                    filter=expression,
                    output_fields=list(fields),
                    consistency_level="Strong",
                    timeout=self.address.timeout_s,
                    **bound,
                )
            )
        )

    def _all(self, name: str, expression: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        """Every row that passes, however many; a plain query where one is enough."""
        if self.fingerprint() is None:
            return []
        found = self._query(name, expression, fields)
        if len(found) < QUERY_ROWS:
            return found
        iterator = _guard(
            lambda: self._client.query_iterator(
                name, filter=expression, output_fields=list(fields), batch_size=QUERY_ROWS // 4
            )
        )
        everything: list[dict[str, Any]] = []
        while batch := _guard(iterator.next):
            everything.extend(batch)
        iterator.close()
        return everything


def _rows_of(document: Document) -> str:
    """The expression for a document and its rows."""
    return f'doc_key in ["{document_key(document.tenant, document.doc_id)}"]'


def _guard(call: Callable[[], T]) -> T:
    try:
        return call()
    except (MilvusException, grpc.RpcError) as error:  # pymilvus lets time-outs through as they are
        why = error.message if isinstance(error, MilvusException) else error.details()
        raise StoreUnavailable(
            f"Milvus refused or did not answer: {why or error}; check that it runs and that the "
            "address and token are right"
        ) from error


def _probe(uri: str) -> None:
    """A client made while the server is down goes on failing for a minute: look first."""
    try:
        parts = urlsplit(uri)
        port = parts.port or (443 if parts.scheme == "https" else MILVUS_PORT)
    except ValueError as error:
        raise InvalidInput(f"{uri} is no address of a Milvus: http(s)://host:19530") from error
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except OSError as error:
        raise StoreUnavailable(
            f"no Milvus answers at {uri} ({error}): start it, or correct `store`"
        ) from error


@dataclass(frozen=True)
class _Found:
    """A page by its best row."""

    row_id: str
    score: float


def _scores(found: dict[str, _Found]) -> dict[str, float]:
    return {page: row.score for page, row in found.items()}


def _to_hit(
    entity: dict[str, Any], dense: _Found | None, text: _Found | None, fused: float | None
) -> Hit:
    return Hit(
        **schema.page_facts(entity),
        dense=dense.score if dense else None,
        text_score=text.score if text else None,
        fused=fused,
    )
