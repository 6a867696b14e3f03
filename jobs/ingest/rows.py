"""What travels between the stages of an ingest, and how Ray Data carries it.

A row of Ray Data holds one Shard, Outcome or PageWork as JSON in its column `row`; packed pixels
(jobs/ingest/pixels.py), pictures and vectors travel beside it as bytes.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cluster.core import Document, Readings
from cluster.pages.files import PageKey
from cluster.store.deletion import Owner
from jobs.ingest.report import Stage

Batch = dict[str, Any]  # columns by name: lists or arrays, one entry a row
# What is to be done with a page: all of it; only its picture and words, which were lost; only its
# chunks, from the text that is kept, for their recipe has changed.
Task = Literal["page", "picture", "chunks"]
# Reasons that lie in the content: the same bytes will fail again, wherever and whenever.
IN_THE_CONTENT = frozenset({"corrupt", "crashed", "too_many_pixels", "too_narrow", "too_much_text"})
# Why a document's pages end when it is not this ingest's any more: reason and message.
WHOSE: dict[Owner, tuple[str, str]] = {
    "gone": ("deleted", "it was deleted while it was ingested"),
    "another": ("taken_over", "another ingest has taken it over"),
}


@dataclass(frozen=True)
class Shard:
    """Pages of one document that are to be done, all of them the same way.

    `source`: what is read; the document may name another file with the same bytes. `pages` is empty
    where nothing is missing and only the final status has to be stored. `todo`: pages to do in all
    shards of the document. `stamp`: the source's stamp when it was checked. `readings`: those that
    pages have already, for same bytes are the same page.
    """

    document: Document
    source: str
    task: Task
    pages: tuple[int, ...]
    todo: int
    stamp: str
    is_new: bool
    readings: dict[int, Readings] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The end of an input of which no page is to be done; `reason` says what is wrong, if it is.

    `updated`: its tags, metadata or source are other ones now. `replaces`: these bytes are in the
    index, whole, and older ones of its source are to go.
    """

    document: Document
    reason: str = ""
    message: str = ""
    updated: bool = False
    replaces: bool = False

    @property
    def source(self) -> str:
        return self.document.source


@dataclass
class PageWork:
    """One page on its way from its rendering to its row; `reason` says why it failed, if it did.

    Sizes in px are those of the kept image. `shape`: of the pixels on the model's patch grid,
    uint8[height, width, 3]. `chunks` None until the page is embedded. `seconds` by stage;
    `embed_began` in Unix time. `halved_tokens`: models that ran out of memory, and the smaller
    budget of tokens that each went on with.
    """

    document: Document
    source: str
    page: int
    task: Task
    todo: int
    is_new: bool
    reason: str = ""
    message: str = ""
    text: str = ""
    ocr_error: str = ""
    width_px: int = 0
    height_px: int = 0
    shape: tuple[int, ...] = ()
    readings: Readings = field(default_factory=dict)
    chunks: list[str] | None = None
    seconds: dict[Stage, float] = field(default_factory=dict)
    embed_began: float = 0.0
    halved_tokens: dict[str, int] = field(default_factory=dict)
    worker: str = ""

    @property
    def key(self) -> PageKey:
        return PageKey(self.document.tenant, self.document.doc_id, self.page)

    @property
    def name(self) -> str:
        """Return what people and the watch know the page by."""
        return f"page {self.page} of {self.source}"

    @property
    def rows(self) -> int | None:
        """How many rows the page has now, its own and its chunks'; None where nobody can say."""
        if self.chunks is not None:
            return 1 + len(self.chunks)
        return 0 if self.task == "page" and self.reason in IN_THE_CONTENT else None

    def fail(self, reason: str, message: str) -> None:
        self.reason, self.message = reason, message


IngestRow = Shard | Outcome | PageWork


def to_batch(
    row: IngestRow, *, pixels: bytes = b"", picture: bytes = b"", scan: bytes = b""
) -> Batch:
    """Return a batch of one row."""
    return {"row": to_texts([row]), "pixels": [pixels], "picture": [picture], "scan": [scan]}


def to_texts(rows: Iterable[IngestRow]) -> list[str]:
    """Rows as JSON."""
    return [json.dumps({"kind": type(row).__name__, **asdict(row)}) for row in rows]


def from_texts(texts: Iterable[Any]) -> list[IngestRow]:
    """Rows from their JSON."""
    return [_from_text(str(text)) for text in texts]


def _from_text(text: str) -> IngestRow:
    fields = json.loads(text)
    kind = fields.pop("kind")
    document = fields.pop("document")
    lists = {name: tuple(document[name]) for name in ("tags", "marks")}
    document = Document(**{**document, **lists})
    if kind == "Outcome":
        return Outcome(document, **fields)
    if kind == "PageWork":
        return PageWork(document, **{**fields, "shape": tuple(fields["shape"])})
    readings = {int(page): values for page, values in fields.pop("readings").items()}
    return Shard(document, **{**fields, "pages": tuple(fields["pages"])}, readings=readings)
