"""One row of a file of vectors, and what must be true of it before anything is made of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.core import Document, Fingerprint, Row, Scalar, page_id
from cluster.errors import InvalidInput, QuireError
from cluster.store.schema import (
    EXPECTED_CER,
    PATH_BYTES,
    TITLE_BYTES,
    VARCHAR_BYTES,
    check_document_fields,
)

MAX_ID_CHARS = 1_024
MAX_SIDE_PX = 1_000_000
MAX_PAGE = 10_000_000
MAX_READINGS = 64
MAX_READING_CHARS = 1_024
ROUNDING = 1e-6  # of the length of a unit vector in float32
LENGTH_TOLERANCE = 1e-3  # of a vector's length: within it vectors are made unit vectors again
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Reading = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class RowFacts(BaseModel):
    """What a file says of a row beside its vector; `id` is for people and programs outside.

    `chunk` 0 is the page itself. `pages`: of the whole document. `readings`: expected CER and the
    like, by column.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(max_length=MAX_ID_CHARS, pattern=r"^[^\x00-\x1f]+$")]
    doc_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    page: Annotated[int, Field(ge=1, le=MAX_PAGE)]
    chunk: Annotated[int, Field(ge=0, le=MAX_PAGE)] = 0
    title: Annotated[str, Field(max_length=TITLE_BYTES)] = ""
    source: Annotated[str, Field(max_length=PATH_BYTES)]
    text: Annotated[str, Field(max_length=VARCHAR_BYTES)] = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Scalar] = {}
    tenant: str = ""
    sha256: Sha256
    pages: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 1
    time_ms: Annotated[int, Field(ge=0, lt=2**53)] = 0
    width_px: Annotated[int, Field(ge=0, le=MAX_SIDE_PX)] = 0
    height_px: Annotated[int, Field(ge=0, le=MAX_SIDE_PX)] = 0
    readings: Annotated[dict[Reading, Scalar], Field(max_length=MAX_READINGS)] = {}

    @classmethod
    def of(cls, row: Row) -> "RowFacts":
        """Return the facts of a row of a collection."""
        document = row.document
        page = page_id(document.doc_id, row.page)
        return cls(
            id=f"{page}:{row.chunk}" if row.chunk else page,
            doc_id=document.doc_id,
            page=row.page,
            chunk=row.chunk,
            title=document.title,
            source=document.source,
            text=row.text,
            tags=document.tags,
            metadata=document.metadata,
            tenant=document.tenant,
            sha256=document.sha256,
            pages=max(1, document.pages),
            time_ms=document.time_ms,
            width_px=row.width_px,
            height_px=row.height_px,
            readings=row.readings,
        )

    @property
    def expected_cer(self) -> float:
        """Return the expected CER, 0 where there is none; -1 where it is no number."""
        cer = self.readings.get(EXPECTED_CER, 0.0)
        return float(cer) if isinstance(cer, int | float) else -1.0

    def document(self, fingerprint: Fingerprint, tenant: str | None) -> Document:
        """Return the document that the row is of; `tenant` None takes the file's."""
        return Document(
            doc_id=self.doc_id,
            sha256=self.sha256,
            source=self.source,
            title=self.title,
            pages=self.pages,
            tenant=self.tenant if tenant is None else tenant,
            tags=self.tags,
            metadata=dict(self.metadata),
            fingerprint=fingerprint.to_json(),
            time_ms=self.time_ms,
        )


@dataclass(frozen=True)
class VectorRow:
    """A row of a file: its facts, and float32[dimension], or None where it has no vector."""

    facts: RowFacts
    vector: np.ndarray | None

    @classmethod
    def of(cls, row: Row) -> "VectorRow":
        """Return a row of a collection as one of a file, at unit length: int8 is not kept so."""
        if row.vector is None:
            return cls(RowFacts.of(row), None)
        vector = np.asarray(row.vector, np.float32)
        return cls(RowFacts.of(row), at_unit_length(vector[None])[0])

    def row(self, fingerprint: Fingerprint, tenant: str | None) -> Row:
        """Return it as a row of a collection."""
        facts = self.facts
        return Row(
            facts.document(fingerprint, tenant),
            facts.page,
            facts.chunk,
            facts.text,
            self.vector,
            facts.width_px,
            facts.height_px,
            dict(facts.readings),
        )


def parse_facts(values: dict[str, Any], number: int) -> RowFacts:
    """Return the facts of row `number` (from 1) of a file. Raises InvalidInput that names it."""
    try:
        facts = RowFacts.model_validate(values)
        check_document_fields(facts.tenant, facts.tags, facts.metadata)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(f"row {number}: {where}: {first['msg']}") from error
    except QuireError as error:
        raise InvalidInput(f"row {number}: {error}") from error
    if not 0 <= facts.expected_cer <= 1:
        raise InvalidInput(f"row {number}: readings: {EXPECTED_CER} is a number from 0 to 1")
    if any(len(str(value)) > MAX_READING_CHARS for value in facts.readings.values()):
        raise InvalidInput(f"row {number}: readings have at most {MAX_READING_CHARS} characters")
    if facts.doc_id != facts.sha256[: len(facts.doc_id)]:
        raise InvalidInput(f"row {number}: doc_id is not the beginning of sha256")
    return facts


def parse_json(text: str | bytes, number: int, what: str) -> Any:
    """Return what a cell of row `number` has as JSON. Raises InvalidInput that names it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"row {number}: {what} is no JSON: {error}") from error


def unit_vectors(vectors: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """Check vectors [n, d] of rows with these numbers → float32[n, d], unit length.

    Lengths that differ from 1 by up to LENGTH_TOLERANCE are mended. Raises InvalidInput that names
    the first bad row.
    """
    narrow = finite_vectors(vectors, numbers)
    lengths = np.linalg.norm(narrow.astype(np.float64), axis=1)
    is_unit = np.abs(lengths - 1) <= LENGTH_TOLERANCE
    if not is_unit.all():
        worst = int(np.argmin(is_unit))
        raise InvalidInput(
            f"row {numbers[worst]}: its vector has the length {lengths[worst]:.6g} and not 1: "
            "divide vectors by their length first"
        )
    return at_unit_length(narrow)


def finite_vectors(vectors: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """Check the same for numbers alone → float32[n, d]. Raises InvalidInput that names the row."""
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
        narrow = np.asarray(vectors, np.float32)
    finite = np.isfinite(narrow).all(axis=1)
    if not finite.all():
        number = numbers[int(np.argmin(finite))]
        raise InvalidInput(f"row {number}: its vector holds what is no finite number")
    return narrow


def at_unit_length(vectors: np.ndarray) -> np.ndarray:
    """Return float32[n, d] at unit length; those that have it stay as they are, bit by bit."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    is_off = (np.abs(lengths - 1) > ROUNDING) & (lengths > 0)
    scaled = np.divide(vectors, lengths, out=vectors.astype(np.float64), where=is_off)
    return np.asarray(scaled, np.float32)
