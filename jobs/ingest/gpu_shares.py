"""What the workers of an ingest may take of a GPU: all of a worker's share, or a part each."""

from dataclasses import dataclass

from cluster.capacity.formulas import replica_memory
from cluster.capacity.shapes import Precision
from cluster.settings import Settings
from models.registry import registry

READING_PRECISION = "bf16"  # of late-interaction models on a GPU


@dataclass(frozen=True)
class GpuShares:
    """GPUs that an embedding and a reading worker reserve, and shares of memory; None: no limit."""

    embedding: float
    reading: float = 0.0
    embedding_memory: float | None = None
    reading_memory: float | None = None


def split_gpu(settings: Settings, precision: Precision, *, reads: bool) -> GpuShares:
    """Return the shares of both workers, which are one reservation of the settings together.

    They reserve alike, so that Ray can place any number of them on any GPUs. Memory is split as
    the models need it.
    """
    gpus, memory = settings.gpus_per_worker, settings.gpu_memory_fraction
    if not reads:
        return GpuShares(gpus, embedding_memory=memory)
    reading = 1.0 if gpus > 1 else gpus / 2  # above one, Ray takes whole ones
    if memory is None:
        return GpuShares(gpus - reading, reading)
    embedder = registry.find_spec(settings.model)
    late = registry.find_spec(settings.late_interaction, "late-interaction")
    need = replica_memory(embedder.shape, precision, settings.batch_tokens).allocated
    late_need = replica_memory(
        late.shape, READING_PRECISION, settings.late_interaction_batch_tokens
    ).allocated
    for_reading = memory * late_need / (need + late_need)
    return GpuShares(gpus - reading, reading, memory - for_reading, for_reading)
