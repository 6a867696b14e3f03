"""What is to be embedded, one after the other, each known before it is opened."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.errors import InvalidInput, UnreadableDocument
from jobs.vector_files.row import RowFacts


@dataclass(frozen=True)
class Work:
    """One input: what its row will say, and what the model sees of it."""

    facts: RowFacts
    content: Any  # a MultimodalInput, or a page's uint8[height, width, 3]


def _nothing() -> Work:
    raise NotImplementedError


@dataclass(frozen=True)
class WorkItem:
    """One input by its id; `load` opens it and raises UnreadableDocument or InvalidInput.

    `failure` says why there is nothing to load. `text`: what must be the same when it is met again.
    """

    id: str
    source: str
    load: Callable[[], Work] = _nothing
    text: str | None = None
    failure: str = ""


def load_item(item: WorkItem, prepare: Callable[[Any], Any]) -> tuple[Work, Any] | str:
    """Return an item's work and what a model takes of it, or why it cannot be opened."""
    if item.failure:
        return item.failure
    try:
        work = item.load()
        return work, prepare(work.content)
    except (InvalidInput, UnreadableDocument) as error:
        return str(error)
