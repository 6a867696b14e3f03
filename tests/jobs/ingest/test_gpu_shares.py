"""How an embedding and a reading worker share what the settings reserve of a GPU."""

import pytest

from cluster.capacity.formulas import replica_memory
from cluster.settings import load_settings
from jobs.ingest.gpu_shares import GpuShares, split_gpu
from models.registry import registry

MODELS = {"model": "qwen3-vl-embedding-8b", "late_interaction": "colpali-v1.3"}


def test_without_readings_the_embedder_has_all_of_it() -> None:
    settings = load_settings(gpus_per_worker=0.5, gpu_memory_fraction=0.4)
    shares = split_gpu(settings, "bf16", reads=False)
    assert shares == GpuShares(0.5, embedding_memory=0.4)


@pytest.mark.parametrize(("gpus", "reading"), [(1.0, 0.5), (0.5, 0.25), (2.0, 1.0), (3.0, 1.0)])
def test_both_together_reserve_what_one_did(gpus: float, reading: float) -> None:
    shares = split_gpu(load_settings(gpus_per_worker=gpus), "bf16", reads=True)
    assert (shares.embedding, shares.reading) == (gpus - reading, reading)
    assert shares.embedding_memory is None and shares.reading_memory is None


def test_memory_is_split_as_the_models_need_it() -> None:
    settings = load_settings(gpus_per_worker=1, gpu_memory_fraction=0.9, **MODELS)
    shares = split_gpu(settings, "bf16", reads=True)
    assert shares.embedding_memory and shares.reading_memory
    assert shares.embedding_memory + shares.reading_memory == pytest.approx(0.9)
    need = [
        replica_memory(registry.find_spec(name, kind).shape, "bf16", tokens).allocated  # type: ignore[arg-type]
        for name, kind, tokens in (
            (settings.model, "embedder", settings.batch_tokens),
            (settings.late_interaction, "late-interaction", settings.late_interaction_batch_tokens),
        )
    ]
    assert shares.embedding_memory / shares.reading_memory == pytest.approx(need[0] / need[1])
