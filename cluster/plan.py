"""A plan: which models run where, with what memory, how fast, at what price; as a file too.

`cluster/capacity/planner.py` makes plans; ingest and serve take their settings from one (`--plan
FILE`), and `cluster/kubernetes/manifests.py` makes a Kubernetes cluster of one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from cluster.errors import InvalidInput

# The indexer embeds uploads while the service runs.
Role = Literal["embedder", "reranker", "late-interaction", "quality", "indexer", "generator"]
Goal = Literal["cheapest", "fastest", "smallest GPU", "nearest"]
VERSION = 1
MONTH_H = 730


@dataclass(frozen=True)
class ReplicaMemory:
    """Bytes of GPU memory of one replica. Vision and language peak one after the other.

    `cache`: keys and values of a generator's tokens.
    """

    weights: int
    context: int
    vision: int
    language: int
    workspace: int
    reserve: int
    cache: int = 0

    @property
    def activations(self) -> int:
        return max(self.vision, self.language)

    @property
    def allocated(self) -> int:
        """Return what the allocator may take: everything but the CUDA context."""
        return self.weights + self.cache + self.activations + self.workspace + self.reserve

    @property
    def total(self) -> int:
        return self.allocated + self.context


@dataclass(frozen=True)
class Replicas:
    """`count` replicas of one model on GPUs of one kind, `gpu` "" where it runs on CPUs.

    `gpu_share`: what Ray reserves of a GPU (`num_gpus`). `memory_fraction`: of the card's memory,
    the most that its allocator takes. `per_s`: pages (ingest) or queries (serving) a second of one
    replica with this share. `fits`: how many of them a card's memory would hold with the smallest
    batches. `busy`: share of the time that it computes at the planned load. `measured`: by `quire
    calibrate`, not computed.
    """

    role: Role
    model: str
    precision: str
    gpu: str
    count: int
    gpu_share: float
    memory_fraction: float
    batch_tokens: int
    memory: ReplicaMemory
    fits: int
    per_s: float
    busy: float
    measured: bool


@dataclass(frozen=True)
class IngestPlan:
    """`cost` in the currency of the prices, for all pages; `gpus`: whole GPUs by kind."""

    workers: tuple[Replicas, ...]
    gpus: dict[str, int]
    pages: int
    pages_per_s: float
    hours: float
    cost: float
    render_cpus: int


@dataclass(frozen=True)
class ServingPlan:
    """`qps`: planned load; `most_qps`: where the busiest replicas have no reserve left.

    `cost_per_hour` in the currency of the prices; `gpus`: whole GPUs by kind.
    """

    replicas: tuple[Replicas, ...]
    gpus: dict[str, int]
    qps: float
    most_qps: float
    p95_s: float
    cost_per_hour: float


@dataclass(frozen=True)
class Storage:
    """What the pages take: rows and bytes in Milvus, bytes of what is kept of pages."""

    pages: int
    rows: int
    vector_bytes: int
    milvus_memory_bytes: int
    milvus_disk_bytes: int
    page_files_bytes: int
    vectors: int = 0  # plans of Quire 0.1 lack it


@dataclass(frozen=True)
class Plan:
    """One way to do the work. `settings`: what ingest and serve take, by the names of Settings.

    `expected_error`: of its times and prices, as a share: smaller where they were measured.
    `misses`: what of the workload it does not meet; empty where it meets all.
    """

    model: str
    precision: str
    ingest: IngestPlan | None
    serving: ServingPlan | None
    storage: Storage
    settings: dict[str, Any]
    expected_error: float
    goals: tuple[Goal, ...] = ()
    misses: tuple[str, ...] = ()
    version: int = VERSION

    @property
    def replicas(self) -> tuple[Replicas, ...]:
        """Return all of them: the ingest's workers, then the service's."""
        ingest = self.ingest.workers if self.ingest else ()
        return ingest + (self.serving.replicas if self.serving else ())

    @property
    def gpus(self) -> dict[str, int]:
        """Whole GPUs by kind, the most at one time: the ingest ends before serving has its load."""
        parts = [part.gpus for part in (self.ingest, self.serving) if part]
        kinds = {kind for part in parts for kind in part}
        return {kind: max(part.get(kind, 0) for part in parts) for kind in sorted(kinds)}

    @property
    def cost(self) -> float:
        """Return the cost of the ingest and of a month of serving."""
        ingest = self.ingest.cost if self.ingest else 0.0
        return ingest + (self.serving.cost_per_hour * MONTH_H if self.serving else 0.0)

    def to_yaml(self) -> str:
        """As a file that `load_plan` reads."""
        plain = TypeAdapter(Plan).dump_python(self, mode="json")
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def load_plan(file: Path) -> Plan:
    """Return a plan from its file. Raises InvalidInput."""
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"the plan {file} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise InvalidInput(f"{file} is no plan of this version of Quire: make it with `quire plan`")
    try:
        return TypeAdapter(Plan).validate_python(content)
    except ValidationError as error:
        parts = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
        raise InvalidInput(
            f"the plan {file} is broken ({parts}): make it again with `quire plan`"
        ) from error
