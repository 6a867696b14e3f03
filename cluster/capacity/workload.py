"""What a plan is made for: pages, queries, limits, GPUs, models; from flags and a YAML file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cluster.capacity.formulas import PRECISIONS, PROMPT_TOKENS, TOKEN_CHARS
from cluster.capacity.shapes import ModelShape, Precision
from cluster.errors import InvalidInput
from cluster.hardware import Accelerator, accelerators
from cluster.plan import Role
from cluster.settings import GIB

UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
# Of one page on average (benchmarks/store.py, real manuals): its own row and its chunks'.
ROWS_PER_PAGE = 3.5


def seconds_of(value: object) -> object:
    """ "24h", "90m", "800ms" → seconds; numbers are seconds."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", value)
    if not match or match[2] not in UNITS_S:
        raise ValueError(f"{value!r} is no time: write 24h, 90m, 2d, 1.5s or 800ms")
    return float(match[1]) * UNITS_S[match[2]]


def counts_of(value: object) -> object:
    """ "L4:8,H100" → {"L4": 8, "H100": None}."""
    if not isinstance(value, str):
        return value
    pairs = (part.strip().partition(":") for part in value.split(",") if part.strip())
    return {name.strip(): count.strip() or None for name, _, count in pairs}


def prices_of(value: object) -> object:
    """ "L4=0.8,H100=3.9" → {"L4": "0.8", "H100": "3.9"}."""
    if not isinstance(value, str):
        return value
    pairs = (part.strip().partition("=") for part in value.split(",") if part.strip())
    return {name.strip(): price.strip() for name, _, price in pairs}


def names_of(value: object) -> object:
    return (
        [name.strip() for name in value.split(",") if name.strip()]
        if isinstance(value, str)
        else value
    )


Count = Annotated[int, Field(ge=1, le=10_000)]
CardName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,38}[A-Za-z0-9])?$")]
Seconds = Annotated[float, BeforeValidator(seconds_of), Field(gt=0)]
Names = Annotated[tuple[str, ...], BeforeValidator(names_of)]
Numbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(names_of)]
Precisions = Annotated[tuple[Precision, ...], BeforeValidator(names_of)]


class Card(BaseModel):
    """A kind of GPU that the table lacks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_gib: float = Field(gt=0)
    bf16_tflops: float = Field(gt=0)
    fp32_tflops: float = Field(gt=0)
    bandwidth_gb_s: float = Field(gt=0)
    price_per_hour: float = Field(0, ge=0)


class Workload(BaseModel):
    """What is to be planned; the fields are options of `quire plan` and keys of its YAML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus: Annotated[dict[str, Count | None], BeforeValidator(counts_of)] = Field(
        {}, description="GPUs that there are, as L4:8,H100:2; without a number as many as needed."
    )
    pages: int = Field(0, ge=0, description="Pages to ingest.")
    deadline: Seconds | None = Field(None, description="The ingest must be done within (24h).")
    budget: float | None = Field(
        None, gt=0, description="Most money: the ingest, and a month of serving."
    )
    qps: float = Field(0, ge=0, description="Queries a second to serve.")
    p95: Seconds = Field(1.0, description="95 % of the queries are answered within (800ms).")
    rerank_k: int = Field(20, ge=0, le=200, description="Candidates to rerank; 0: none.")
    screenshots: float = Field(
        0.1, ge=0, le=1, description="Share of the queries that have an image."
    )
    max_pixels: int = Field(0, ge=0, description="Pixel budget of a page; 0: the model's own.")
    dimensions: int = Field(0, ge=0, description="Truncate vectors; 0 keeps them whole.")
    rows_per_page: float = Field(
        ROWS_PER_PAGE, ge=1, description="Rows of a page: its own and its text's chunks'."
    )
    chunk_vectors: Literal["on", "off"] = Field(
        "on", description="Vectors of chunks, too; off: chunks are found by full text alone."
    )
    milvus_vectors: Literal["fp32", "fp16", "int8"] = Field(
        "fp32", description="Type of the vectors in Milvus; fp16 takes half the memory."
    )
    milvus_mmap: Literal["on", "off"] = Field(
        "off", description="Milvus maps vectors and texts from its disk."
    )
    scanned: float = Field(
        0.0, ge=0, le=1, description="Share of the pages without text, which OCR reads."
    )
    multi_vectors: Literal["off", "fp16", "int8", "binary"] = Field(
        "off", description="Keep multi-vectors of every page, in this precision."
    )
    uploads: Literal["off", "on"] = Field(
        "on", description="Keep room on the service's GPUs to index uploads."
    )
    quality: Literal["off", "on"] = Field(
        "off", description="Predict at ingest how well OCR would read each page."
    )
    generator: Literal["", "2b", "8b"] = Field(
        "", description="Keep room for a generator of this size that answers from pages."
    )
    answers: float = Field(1.0, gt=0, le=1, description="Share of the queries it answers.")
    models: Names = Field((), description="Embedders to choose from; by default Qwen's.")
    rerankers: Names = Field((), description="Rerankers to choose from; by default Qwen's.")
    late_interaction: str = Field("", description="The model of multi-vectors.")
    precisions: Precisions = Field(
        ("bf16", "int8", "nf4", "fp32"),
        description="Precisions to choose from, the preferred one first.",
    )
    cpus: int = Field(0, ge=0, description="CPU cores for rendering; 0: as many as needed.")
    prices: Annotated[dict[str, Annotated[float, Field(ge=0)]], BeforeValidator(prices_of)] = Field(
        {}, description="Money a GPU and hour, as L4=0.8,H100=3.9."
    )
    cards: dict[CardName, Card] = Field({}, description="Kinds of GPU that the table lacks (YAML).")

    @property
    def embedded_chunks(self) -> float:
        """Return how many chunks of a page are embedded, on average."""
        return self.rows_per_page - 1 if self.chunk_vectors == "on" else 0.0

    @property
    def is_counted(self) -> bool:
        """True where the number of every card is known: then all of them can be used at once."""
        return bool(self.gpus) and all(self.gpus.values())

    def accelerators(self) -> dict[str, tuple[Accelerator, int | None]]:
        """Kinds with their numbers and these prices: those of `gpus`, or all that can be rented.

        Raises InvalidInput.
        """
        known = {card.name.upper(): card for card in self._known()}
        strange = [name for name in (*self.gpus, *self.prices) if name.upper() not in known]
        if strange:
            names = ", ".join(card.name for card in known.values())
            raise InvalidInput(
                f"no GPU is called {strange[0]!r}: choose from {names}, or describe it under "
                "`cards` in a YAML file (--workload FILE)"
            )
        for name, price in self.prices.items():
            known[name.upper()] = replace(known[name.upper()], price_per_hour=price)
        if not self.gpus:
            return {card.name: (card, None) for card in known.values() if not card.is_cpu}
        cards = [(known[name.upper()], count) for name, count in self.gpus.items()]
        if any(card.is_cpu for card, _ in cards) and (len(cards) > 1 or (cards[0][1] or 1) > 1):
            raise InvalidInput("CPU is this machine, once and alone: plan GPUs apart from it")
        return {card.name: (card, 1 if card.is_cpu else count) for card, count in cards}

    def _known(self) -> list[Accelerator]:
        """Return the table, with cards of one's own in it."""
        own = [
            Accelerator(
                name,
                int(card.memory_gib * GIB),
                card.bf16_tflops,
                card.fp32_tflops,
                card.bandwidth_gb_s,
                card.price_per_hour,
                "",
            )
            for name, card in self.cards.items()
        ]
        return [*accelerators().values(), *own]

    def page_pixels(self, candidate: "Candidate") -> int:
        """Pixels of a page for a model: as asked of an embedder, and within its longest input."""
        own = candidate.role in ("embedder", "indexer")
        wanted = self.max_pixels if own and self.max_pixels else candidate.max_pixels
        room = candidate.max_tokens - candidate.prompt_tokens
        return min(wanted, room * candidate.shape.vision.token_px**2)


def load_workload(file: Path | None, **flags: object) -> Workload:
    """A workload from a YAML file and flags over it (None: not given). Raises InvalidInput."""
    given: dict[str, Any] = {}
    if file is not None:
        try:
            content = yaml.safe_load(file.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InvalidInput(f"the workload {file} cannot be read: {error}") from error
        if not isinstance(content, Mapping):
            raise InvalidInput(f"{file} is no workload: write `pages: 100000` and so on")
        given |= content
    given |= {name: value for name, value in flags.items() if value is not None}
    return checked(Workload, "workload", given)


Kind = TypeVar("Kind", bound=BaseModel)


def checked(kind: type[Kind], name: str, given: Mapping[str, Any]) -> Kind:
    """Build a model from what was given. Raises InvalidInput that names each wrong part."""
    try:
        return kind(**given)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {_said(item)}" for item in error.errors()
        )
        raise InvalidInput(f"the {name} cannot be used: {problems}") from error


def _said(item: Any) -> str:
    """Say one of pydantic's problems in words for people."""
    own = {"extra_forbidden": "there is no such option", "missing": "is missing"}
    if item["type"] in own:
        return own[item["type"]]
    message = str(item["msg"]).removeprefix("Value error, ")
    return message if item["type"] == "value_error" else f"{message}, not {item['input']!r}"


@dataclass(frozen=True)
class Candidate:
    """A model that a plan may use. `max_pixels` of a page; `max_tokens` of its longest input."""

    name: str
    role: Role
    shape: ModelShape
    dimension: int
    max_pixels: int
    max_tokens: int
    page_chars: int = 0
    always_sees: bool = True  # page images, also for a query of words
    precisions: tuple[str, ...] = PRECISIONS

    @property
    def prompt_tokens(self) -> int:
        """Tokens of a page beside its image."""
        return PROMPT_TOKENS + self.page_chars // TOKEN_CHARS
