"""What every stage of one ingest has to know."""

from dataclasses import dataclass

from cluster.core import Scalar
from cluster.settings import Settings
from cluster.store.client import StoreAddress
from jobs.ingest.readings import Reading
from jobs.rendering.client import RenderTarget
from models.options import EmbedderOptions


@dataclass(frozen=True)
class IngestContext:
    """The same for all workers of an ingest.

    `reindex`: also documents that are in the index as they are, but none that is not. `threads`: of
    torch in one embedding worker. `readings`: what is read of pages beside their vectors.
    """

    settings: Settings
    address: StoreAddress
    fingerprint: str
    dimension: int
    options: EmbedderOptions
    target: RenderTarget
    page_chars: int
    tenant: str
    tags: tuple[str, ...]
    metadata: dict[str, Scalar]
    reindex: bool
    threads: int
    readings: tuple[Reading, ...]
