"""The nouns every room shares: frozen, typed, free of any import of ours."""

import json
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any, Literal

Mode = Literal["hybrid", "dense", "text"]
Scalar = str | int | float | bool
Readings = dict[str, Scalar]  # what was read of a page beside its vector, by column
DocumentStatus = Literal["indexing", "indexed", "failed", "skipped", "deleting"]
Order = Literal["gt", "gte", "lt", "lte"]
Verdict = Literal["ocr", "rescan", "manual"]  # what to do with a page, by its expected CER

DOC_ID_CHARS = 32


def page_id(doc_id: str, page: int) -> str:
    """Return the identity of one page, e.g. `3f…:12`. Pages count from 1."""
    return f"{doc_id}:{page}"


@dataclass(frozen=True)
class Fingerprint:
    """Everything that changes a vector. A collection holds exactly one."""

    model: str
    revision: str
    precision: str
    pooling: str
    dimension: int
    max_pixels: int
    instruction: str
    page_input: str

    def __str__(self) -> str:
        return (
            f"{self.model}@{self.revision[:12]} {self.precision} {self.pooling} "
            f"{self.dimension}d {self.max_pixels}px"
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Fingerprint":
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Document:
    """One PDF or image file. `doc_id` is the sha256 of its bytes (hex, first 32).

    `marks`: digests (cluster.ids.mark) of facts that are only ever compared: which ingest wrote
    it, the stamp of its source then, the recipe of its chunks.
    """

    doc_id: str
    sha256: str
    source: str
    title: str = ""
    pages: int = 0
    status: DocumentStatus = "indexing"
    error: str = ""
    tenant: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Scalar] = field(default_factory=dict)
    fingerprint: str = ""
    time_ms: int = 0
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A page of a document (`chunk` 0) or a chunk of a page's text (1, 2, …).

    A collection may keep no vectors of chunks; then theirs is None.
    """

    document: Document
    page: int
    chunk: int
    text: str
    vector: Any  # float32[dimension], or None
    width_px: int
    height_px: int
    readings: Readings = field(default_factory=dict)

    @property
    def kind(self) -> Literal["page", "chunk"]:
        return "chunk" if self.chunk else "page"


@dataclass(frozen=True)
class Page:
    """One page as the index has it; the size is that of its kept image."""

    doc_id: str
    page: int
    title: str
    source: str
    text: str
    tenant: str
    tags: tuple[str, ...]
    metadata: dict[str, Scalar]
    width_px: int
    height_px: int
    expected_cer: float | None = None


@dataclass(frozen=True)
class TagIs:
    """Documents with a tag."""

    tag: str


@dataclass(frozen=True)
class DocumentIs:
    """One document."""

    doc_id: str


@dataclass(frozen=True)
class MetadataIs:
    """Documents whose metadata has a value: numbers are equal as numbers, 2024 = 2024.0."""

    key: str
    value: Scalar


@dataclass(frozen=True)
class MetadataCompares:
    """Documents whose metadata has a number, or a date as YYYY-MM-DD…, in this order to another.

    A date is a whole day. Documents that have nothing of that kind pass neither this nor `Not`.
    """

    key: str
    order: Order
    bound: float | date


@dataclass(frozen=True)
class IngestedCompares:
    """Documents by when they were ingested; a date is a whole day (UTC)."""

    order: Order
    bound: date | datetime


@dataclass(frozen=True)
class CerCompares:
    """Pages by their expected CER; those without one pass neither this nor `Not`."""

    order: Order
    bound: float


@dataclass(frozen=True)
class AllOf:
    """What meets every one of these conditions."""

    conditions: tuple["Condition", ...]


@dataclass(frozen=True)
class AnyOf:
    """What meets at least one of these conditions."""

    conditions: tuple["Condition", ...]


@dataclass(frozen=True)
class Not:
    """What does not meet a condition."""

    condition: "Condition"


Condition = (
    TagIs
    | DocumentIs
    | MetadataIs
    | MetadataCompares
    | IngestedCompares
    | CerCompares
    | AllOf
    | AnyOf
    | Not
)


@dataclass(frozen=True)
class Filter:
    """Which rows a search may see. Every value is data, never a piece of an expression."""

    tenant: str | None = None
    tags: tuple[str, ...] = ()
    doc_ids: tuple[str, ...] = ()
    metadata: dict[str, Scalar] = field(default_factory=dict)
    after: datetime | None = None
    before: datetime | None = None
    min_cer: float | None = None  # of the expected CER; pages without one pass neither
    max_cer: float | None = None
    condition: Condition | None = None  # what the language of filters says; must hold as well

    @classmethod
    def of(cls, document: Document) -> "Filter":
        """Return the filter that only this document and its pages pass."""
        return cls(tenant=document.tenant, doc_ids=(document.doc_id,))


@dataclass(frozen=True)
class Query:
    """A question by text, by screenshot (a PIL image or the bytes of an image file), or both."""

    text: str = ""
    image: Any = None
    filter: Filter = Filter()


@dataclass(frozen=True)
class Hit:
    """A page found, with every score that led to it; higher is better in each.

    `expected_cer` is predicted, 0 … 1, where the page was ingested with that switched on.
    `rerank` is P("yes") of the reranker and `maxsim` the late-interaction score, each for
    candidates that were shown to it.
    """

    doc_id: str
    page: int
    title: str
    source: str
    text: str
    tenant: str
    tags: tuple[str, ...]
    metadata: dict[str, Scalar]
    dense: float | None = None
    text_score: float | None = None
    fused: float | None = None
    rerank: float | None = None
    maxsim: float | None = None
    expected_cer: float | None = None

    @property
    def page_id(self) -> str:
        return page_id(self.doc_id, self.page)
