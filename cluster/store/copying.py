"""Copy rows between collections with their vectors, and tell whether a collection changed."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from cluster.core import DocumentStatus
from cluster.errors import InvalidInput
from cluster.ids import filter_label
from cluster.store import schema
from cluster.store.client import QUERY_ROWS, Client, Entity
from cluster.store.filters import UNKNOWN_CER, with_labels
from cluster.store.format import StoredCollection
from cluster.store.rows import count_rows, upsert_rows, whole_rows

DEFAULTS: Entity = {schema.EXPECTED_CER: UNKNOWN_CER}  # what rows of older formats may lack
BUSY: tuple[DocumentStatus, ...] = ("indexing", "deleting")
POLL_S = 1.0
STATE_FIELDS = ("doc_key", "sha256", "status", "title", "time_ms", "source", "tags", "metadata")

Change = Callable[[Entity], Entity]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class CollectionState:
    """What differs between two looks at a collection where anything wrote to it between them.

    `documents` and `rows` as Milvus counts them; `digest` of what is known of every document, its
    status and marks: each ingest leaves another one.
    """

    documents: int
    rows: int
    digest: str


def read_state(client: Client, stored: StoredCollection) -> CollectionState:
    """Look at a collection; reads every document's row, but no page's."""
    documents, rows = client.count(stored.documents, ""), count_rows(client, stored)
    total = 0
    if documents:  # Milvus Lite has no iterator over no row
        fields = (*STATE_FIELDS, stored.marks_field)
        for entities in client.iterate(stored.documents, "", fields, QUERY_ROWS // 4):
            total += sum(_digest(entity) for entity in entities)
    return CollectionState(documents, rows, f"{total % 2**256:064x}")


def count_busy(client: Client, stored: StoredCollection) -> int:
    """Count the documents that are being indexed or deleted, or were left so."""
    return sum(
        client.count(stored.documents, with_labels([filter_label("status", status)]))
        for status in BUSY
    )


def wait_until_quiet(client: Client, stored: StoredCollection, wait_s: float) -> None:
    """Wait while documents are being indexed or deleted.

    Raises InvalidInput where they still are after so many seconds.
    """
    deadline = time.monotonic() + wait_s
    while (left_s := deadline - time.monotonic()) > 0 and count_busy(client, stored):
        time.sleep(min(POLL_S, left_s))
    check_quiet(client, stored)


def check_quiet(client: Client, stored: StoredCollection) -> None:
    """Raise InvalidInput while documents are being indexed or deleted."""
    if busy := count_busy(client, stored):
        raise InvalidInput(
            f"{busy} documents of {stored.name!r} are being indexed or deleted, or were left so: "
            "let that end, ingest them again, or forget them; then run this again"
        )


def check_unchanged(client: Client, stored: StoredCollection, before: CollectionState) -> None:
    """Raise InvalidInput where anything was written to a collection since that look at it."""
    check_quiet(client, stored)
    if read_state(client, stored) != before:
        raise InvalidInput(
            f"{stored.name!r} changed meanwhile: stop what writes to it and run this again"
        )


def copy_collection_rows(
    client: Client,
    source: StoredCollection,
    target: StoredCollection,
    *,
    change: Change = lambda entity: entity,
    progress: Progress = lambda done: None,
) -> None:
    """Copy every document, then every row, of a collection; `change` may give them other values.

    `progress` gets the rows done.
    """
    for entities in client.whole_rows(source.documents, ""):
        documents = [with_defaults(change(entity)) for entity in entities]
        client.upsert(target.documents, documents)
    done = 0
    for entities in whole_rows(client, source, ""):
        upsert_rows(client, target, [with_defaults(change(entity)) for entity in entities])
        done += len(entities)
        progress(done)


def with_defaults(entity: Entity) -> Entity:
    """Return a row, or a document's, with what those of older collections lack."""
    return schema.with_keys({**DEFAULTS, **entity} if "row_id" in entity else entity)


def _digest(entity: Entity) -> int:
    facts = [entity[name] for name in STATE_FIELDS] + sorted(schema.marks_in(entity))
    return int.from_bytes(hashlib.sha256(json.dumps(facts).encode()).digest())
