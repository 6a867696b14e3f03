"""Marks of collections that are being filled: whoever finds one knows that rows may be missing.

A mark is an empty collection of Milvus beside the one that is filled, for names are looked up in
any case, and a collection is made and dropped in one step. What it is filled from, and how, is in
the mark's description.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from cluster.store import schema
from cluster.store.client import Client

Filling = Literal["copy", "rename", "restore"]


@dataclass(frozen=True)
class Unfinished:
    """What a collection is filled from: another collection's name, or where a backup is."""

    filling: Filling
    source: str

    def to_do(self, name: str) -> str:
        """Say how the collection `name` becomes whole."""
        if self.filling == "restore":
            return f"run `quire restore {self.source}` again, as before"
        return f"run `quire collections {self.filling} {self.source} {name}` again"


def mark_unfinished(client: Client, name: str, unfinished: Unfinished) -> None:
    """Mark a collection before the first of its rows is written."""
    client.create(mark_name(name), *schema.mark_schema(json.dumps(asdict(unfinished))))


def read_mark(client: Client, name: str) -> Unfinished | None:
    """Return what a collection is filled from; None where it carries no mark."""
    if mark_name(name) not in client.names():
        return None
    return Unfinished(**json.loads(client.describe(mark_name(name))["description"]))


def remove_mark(client: Client, name: str) -> None:
    """Declare a collection whole, or gone."""
    if mark_name(name) in client.names():
        client.drop(mark_name(name))


def mark_name(name: str) -> str:
    return f"{name}_unfinished"
