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

    `reindex`: do unchanged documents again, and skip a source whose document was deleted meanwhile.
    `threads`: of torch in one embedding worker. `readings`: what is read of pages beside vectors.
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
