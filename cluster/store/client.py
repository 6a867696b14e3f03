"""One client of Milvus: calls with a deadline, writes tried again, errors that say what to do."""

import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from cluster.errors import InvalidInput, StoreUnavailable
from cluster.settings import Settings
from cluster.store.layout import LITE, Layout
from cluster.store.vectors import from_stored, to_stored

MILVUS_PORT = 19530
CALL_TIMEOUT_S = 30.0
# pymilvus pings every 10 s; Milvus Lite takes that for an attack and hangs up.
GRPC_OPTIONS = {"grpc.keepalive_time_ms": 300_000, "grpc.keepalive_permit_without_calls": False}
WRITE_PATIENCE_S = 15.0  # a server that restarts is back in seconds
PAUSE_S = 0.5  # before a call is made again; grows to the longest
LONGEST_PAUSE_S = 5.0
MAX_REFUSALS = 3  # of one call, by a Milvus that answers all the same
COPY_ROWS = 256  # with vectors, at a time: a row of the 8B has 20 KB, and a message 64 MB
COMPUTED = {"sparse"}  # by Milvus, from the terms
QUERY_ROWS = 16_384  # the most rows that Milvus returns at once
STRONG = "Strong"  # a read sees every write that returned before it: a server waits for a tick
SESSION = "Session"  # it sees what this process wrote, and others' writes a moment later
COLLECTION_NOT_FOUND = 100  # Milvus' code
THREADS = 128  # of calls that run beside another one: a search makes four at once

T = TypeVar("T")
U = TypeVar("U")
Entity = dict[str, Any]  # a row as Milvus has it: values by the name of their field


class CollectionGone(StoreUnavailable):
    """A collection is not there any more under the name that it had."""


@dataclass(frozen=True)
class StoreAddress:
    """How any process of a job reaches the store.

    `patience_s`: how long every call waits for a Milvus that is away. Those of a request wait for
    nothing; writes are tried again for WRITE_PATIENCE_S all the same. `layout`: of collections that
    are made.
    """

    uri: str
    collection: str
    token: str = field(default="", repr=False)
    timeout_s: float = CALL_TIMEOUT_S
    patience_s: float = 0.0
    layout: Layout = LITE


def store_token(settings: Settings) -> str:
    """Return how a remote Milvus knows us: a token, or user:password."""
    token = settings.store_token.get_secret_value()
    return f"{settings.store_user}:{token}" if settings.store_user else token


class Client:
    """Calls of one Milvus; every method raises StoreUnavailable where it does not answer.

    What is repeated is harmless: reads, and writes that overwrite or remove by key.
    """

    def __init__(self, address: StoreAddress, revive: Callable[[], None] = lambda: None) -> None:
        """Connect; `revive` is called before a call is made again.

        Raises StoreUnavailable, or InvalidInput where the address is none.
        """
        # It logs a traceback for every error that it also raises.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._timeout_s = address.timeout_s
        self._patience_s = address.patience_s
        self._revive = revive
        self.layout = address.layout
        self._beside = ThreadPoolExecutor(THREADS, thread_name_prefix="milvus")
        self._vector_types: dict[str, Any] = {}  # by collection, as it was described last
        self._milvus: Any = None
        self._milvus = self._call(lambda: _connect(address))

    def be_patient(self, patience_s: float) -> None:
        """Let every call from now on wait for a Milvus that is away."""
        self._patience_s = patience_s

    def close(self) -> None:
        """Drop the connection."""
        self._beside.shutdown(wait=False)
        self._milvus.close()

    def side_by_side(self, first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
        """Return what two calls return, made at the same time."""
        beside = self._beside.submit(second)
        return first(), beside.result()

    def names(self) -> list[str]:
        """Return the names of all collections."""
        return list(self._call(lambda: self._milvus.list_collections(timeout=self._timeout_s)))

    def describe(self, name: str) -> dict[str, Any]:
        """Return a collection's description, fields and options."""
        described = dict(
            self._call(lambda: self._milvus.describe_collection(name, timeout=self._timeout_s))
        )
        kinds = {field["name"]: field["type"] for field in described["fields"]}
        self._vector_types[name] = kinds.get("vector")
        return described

    def all_at_once(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Return what calls return, all made at the same time."""
        return [call.result() for call in [self._beside.submit(call) for call in calls]]

    def create(
        self, name: str, schema: Any, index: Any, options: Mapping[str, Any] | None = None
    ) -> None:
        """Create a collection where there is none of that name; `options` are Milvus' own."""
        milvus, timeout_s = self._milvus, self._timeout_s
        if name not in self.names():
            self._call(
                lambda: milvus.create_collection(
                    name, schema=schema, consistency_level=STRONG, **(options or {})
                )
            )
        # Also where it is there: whoever created it may have ended before this. Without `sync`,
        # for pymilvus sleeps half a second for each index, and an empty one is made at once.
        self._call(lambda: milvus.create_index(name, index, timeout=timeout_s, sync=False))
        self._call(lambda: milvus.load_collection(name, timeout=timeout_s))

    def drop(self, name: str) -> None:
        """Remove a collection with all its rows."""
        self._call(lambda: self._milvus.drop_collection(name, timeout=self._timeout_s))

    def upsert(self, name: str, entities: list[Entity]) -> None:
        """Write or overwrite rows; tried again while Milvus is away."""
        kind = self._vector_type(name)
        rows = [_with_vector(entity, to_stored, kind) for entity in entities]
        self._call(
            lambda: self._milvus.upsert(name, rows, timeout=self._timeout_s), WRITE_PATIENCE_S
        )

    def delete(self, name: str, expression: str) -> None:
        """Remove the rows that pass; tried again while Milvus is away."""
        self._call(
            lambda: self._milvus.delete(name, filter=expression, timeout=self._timeout_s),
            WRITE_PATIENCE_S,
        )

    def count(self, name: str, expression: str, consistency: str = STRONG) -> int:
        """Count the rows that pass."""
        entities = self._query(name, expression, ["count(*)"], consistency)
        return int(entities[0]["count(*)"])

    def query(
        self,
        name: str,
        expression: str,
        fields: Sequence[str],
        consistency: str = STRONG,
        *,
        rows: int = QUERY_ROWS,
    ) -> list[Entity]:
        """Return the rows that pass, at most so many; Milvus returns no more than QUERY_ROWS."""
        return self._query(name, expression, fields, consistency, limit=rows)

    def query_all(
        self, name: str, expression: str, fields: Sequence[str], consistency: str = STRONG
    ) -> list[Entity]:
        """Return every row that passes, however many; a plain query where one is enough."""
        entities = self.query(name, expression, fields, consistency)
        if len(entities) < QUERY_ROWS:
            return entities
        batches = self.iterate(name, expression, fields, QUERY_ROWS // 4)
        return [entity for batch in batches for entity in batch]

    def iterate(
        self, name: str, expression: str, fields: Sequence[str], batch_rows: int
    ) -> Iterator[list[Entity]]:
        """Yield every row that passes, in batches."""
        iterator = self._call(
            lambda: self._milvus.query_iterator(
                name, filter=expression, output_fields=list(fields), batch_size=batch_rows
            )
        )
        while batch := self._call(iterator.next):
            yield list(batch)
        iterator.close()

    def whole_rows(
        self, name: str, expression: str, batch_rows: int = COPY_ROWS
    ) -> Iterator[list[Entity]]:
        """Yield every row that passes with its vectors and all other fields, in batches."""
        if not self.count(name, expression):  # Milvus Lite cannot read the vectors of no row
            return
        described = self.describe(name)
        fields = [field["name"] for field in described["fields"] if field["name"] not in COMPUTED]
        if described.get("enable_dynamic_field"):
            fields.append("$meta")
        kind = self._vector_type(name)
        for entities in self.iterate(name, expression, fields, batch_rows):
            for entity in entities:
                entity |= entity.pop("$meta", {})
            yield [_with_vector(entity, from_stored, kind) for entity in entities]

    def search(
        self, name: str, field: str, target: Any, expression: str, rows: int, group_by: str = ""
    ) -> list[tuple[str, float]]:
        """(row id, score) of the rows nearest to a target by one field, best first.

        `group_by`: only the best row of those that have the same value in this field.
        Ids and scores only: fetching a row's fields costs Milvus Lite more than finding it.
        """
        if field == "vector":
            target = to_stored(target, self._vector_type(name))
        grouped = {"group_by_field": group_by} if group_by else {}
        results = self._call(
            lambda: self._milvus.search(
                name,
                [target],
                anns_field=field,
                filter=expression,
                limit=rows,
                consistency_level=SESSION,
                timeout=self._timeout_s,
                **grouped,
            )
        )
        return [(row.id, row.distance) for row in results[0]]

    def _vector_type(self, name: str) -> Any:
        """Return the type of a collection's vectors."""
        if name not in self._vector_types:
            self.describe(name)
        return self._vector_types[name]

    def _query(
        self, name: str, expression: str, fields: Sequence[str], consistency: str, **bound: int
    ) -> list[Entity]:
        return list(
            self._call(
                lambda: self._milvus.query(
                    name,
                    filter=expression,
                    output_fields=list(fields),
                    consistency_level=consistency,
                    timeout=self._timeout_s,
                    **bound,
                )
            )
        )

    def _call(self, call: Callable[[], T], patience_s: float = 0.0) -> T:
        """Make a call of pymilvus, again while Milvus is away and there is patience left."""
        deadline = time.monotonic() + max(patience_s, self._patience_s)
        pause_s, refusals = PAUSE_S, 0
        while True:
            try:
                return _guard(call)
            except StoreUnavailable:
                refusals += self._answers()
                if time.monotonic() + pause_s > deadline or refusals >= MAX_REFUSALS:
                    raise
            self._revive()
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _answers(self) -> bool:
        """True where Milvus answers at all: what it refuses then is no matter of patience."""
        try:
            _guard(lambda: self._milvus.list_collections(timeout=PAUSE_S))
        except (StoreUnavailable, AttributeError):  # the latter: there is no connection yet
            return False
        return True


def _with_vector(entity: Entity, convert: Callable[[Any, Any], Any], kind: Any) -> Entity:
    """Return a row with its vector converted, where it has one."""
    return entity | {"vector": convert(entity["vector"], kind)} if "vector" in entity else entity


def _connect(address: StoreAddress) -> MilvusClient:
    _probe(address.uri)
    return MilvusClient(
        uri=address.uri,
        token=address.token,
        timeout=address.timeout_s,
        grpc_options=GRPC_OPTIONS,
    )


def _guard(call: Callable[[], T]) -> T:
    """Run a call of pymilvus; its errors become StoreUnavailable."""
    try:
        return call()
    except (MilvusException, grpc.RpcError) as error:  # pymilvus lets time-outs through as they are
        reason = error.message if isinstance(error, MilvusException) else error.details()
        is_gone = isinstance(error, MilvusException) and error.code == COLLECTION_NOT_FOUND
        raise (CollectionGone if is_gone else StoreUnavailable)(
            f"Milvus refused or did not answer: {reason or error}; check that it runs and that the "
            "address and token are right"
        ) from error


def _probe(uri: str) -> None:
    """Raise StoreUnavailable where nothing listens at an address.

    A client made while the server is down goes on failing for a minute, so look first.
    """
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
