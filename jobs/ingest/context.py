"""What every stage of one ingest has to know."""

from dataclasses import dataclass

from cluster.core import Fingerprint, Scalar
from cluster.settings import Settings
from cluster.store.client import StoreAddress
from jobs.ingest.gpu_shares import GpuShares
from jobs.ingest.readings import Reading
from jobs.ingest.watch import Watcher
from jobs.rendering.client import RenderTarget
from models.options import EmbedderOptions


@dataclass(frozen=True)
class IngestContext:
    """The same for all workers of an ingest.

    `chunk_vectors`: whether the collection keeps vectors of chunks.
    `reindex`: do again what is done. `is_job`: of the service, whose files only a deletion removes.
    `threads`: of torch in one worker; `embed_calls`: of an embedder at once, which share them.
    `gpu`: what embedding and reading workers take of one.
    `readings`: what is read of pages beside vectors.
    `tenant_mark`: as it was when the ingest began (cluster.store.deletion). `watch`: knows of
    all workers (jobs.ingest.watch).
    """

    settings: Settings
    ingest_id: str
    address: StoreAddress
    fingerprint: Fingerprint
    options: EmbedderOptions
    target: RenderTarget
    page_chars: int
    chunk_vectors: bool
    tenant: str
    tags: tuple[str, ...]
    metadata: dict[str, Scalar]
    reindex: bool
    is_job: bool
    threads: int
    embed_calls: int
    gpu: GpuShares
    readings: tuple[Reading, ...]
    tenant_mark: str
    watch: Watcher
