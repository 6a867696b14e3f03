"""A plan's replicas → the settings that ingest and serve take from it (`--plan FILE`)."""

import math
from typing import Any

from cluster.capacity.workload import Candidate, Workload
from cluster.deployments import deployment_of
from cluster.plan import IngestPlan, Replicas, ServingPlan
from cluster.settings import Settings

ROUTERS = 2
ROUTER_QPS = 50  # of one router (benchmarks/serving.py), with room
MODEL_CPUS = 2  # that Ray reserves for a replica: host threads that decode and tokenise
MIN_TARGET = 0.1
LATE_BATCH_TOKENS = int(Settings.model_fields["late_interaction_batch_tokens"].default)


def settings_of(
    workload: Workload,
    embedder: Candidate,
    precision: str,
    late: Candidate | None,
    ingest: IngestPlan | None,
    serving: ServingPlan | None,
) -> dict[str, Any]:
    """Settings by name; nested ones hold only what is planned."""
    settings: dict[str, Any] = {"model": embedder.name, "precision": precision}
    if precision in ("int8", "nf4"):
        settings["quantize_vision"] = False
    for name in ("max_pixels", "dimensions"):
        if value := getattr(workload, name):
            settings[name] = value
    if workload.milvus_vectors != "fp32":
        settings["milvus_vectors"] = workload.milvus_vectors
    if workload.milvus_mmap == "on":
        settings["milvus_mmap"] = True
    if workload.chunk_vectors == "off":
        settings["chunk_vectors"] = "off"
    if late is not None:
        settings |= {
            "multi_vectors": workload.multi_vectors,
            "late_interaction": late.name,
            "late_interaction_batch_tokens": LATE_BATCH_TOKENS,
            "tiles": 1,
            "token_pooling": 1,
        }
    if workload.quality == "on":
        settings["quality"] = "on"
    is_mixed = len(workload.gpus) != 1  # the pool: replicas could land on what is not meant
    if ingest:
        settings |= _of_ingest(ingest, is_mixed)
    if serving:
        settings |= _of_serving(serving, workload, is_mixed)
    return settings


def _of_ingest(ingest: IngestPlan, is_mixed: bool) -> dict[str, Any]:
    workers = ingest.workers
    settings: dict[str, Any] = {
        # One job has one budget: that of the smallest card.
        "batch_tokens": min(each.batch_tokens for each in workers),
        "workers": sum(each.count for each in workers),
        "render_workers": ingest.render_cpus,
    }
    if ingest.gpus:
        settings["gpus_per_worker"] = max(each.gpu_share for each in workers)
        settings["gpu_memory_fraction"] = min(each.memory_fraction for each in workers)
    if is_mixed and len(ingest.gpus) == 1:
        settings["gpu_kind"] = next(iter(ingest.gpus))
    return settings


def _of_serving(serving: ServingPlan, workload: Workload, is_mixed: bool) -> dict[str, Any]:
    # What is not planned is asleep, and takes no GPU when it is woken.
    settings: dict[str, Any] = {
        "rerank": "none",
        "reranker_replicas": {"min_replicas": 0, "gpus": 0},
    }
    if serving.gpus:  # two, so that one may go
        most = max(ROUTERS, math.ceil(serving.qps / ROUTER_QPS))
        settings["router"] = {"min_replicas": ROUTERS, "max_replicas": most}
    for each in serving.replicas:
        deployment = deployment_of(each.role)
        if deployment is None:
            continue  # room is kept: an indexer takes a share like the embedder's
        settings[deployment.settings_field] = _scaling(each, is_mixed)
        if each.role == "reranker":
            settings |= {
                "rerank": "cross-encoder",
                "reranker": each.model,
                "rerank_precision": each.precision,
                "rerank_batch_tokens": each.batch_tokens,
                "rerank_k": workload.rerank_k,
            }
    return settings


def _scaling(replicas: Replicas, is_mixed: bool) -> dict[str, Any]:
    """Return all of the planned replicas, always: fewer would not keep the planned time.

    Whoever lowers `min_replicas` finds the autoscaler's aim set to the planned load.
    """
    scaling: dict[str, Any] = {
        "min_replicas": replicas.count,
        "max_replicas": replicas.count,
        "target_ongoing_requests": max(MIN_TARGET, round(replicas.busy, 2)),
        "cpus": MODEL_CPUS,
        "gpus": replicas.gpu_share,
    }
    if replicas.role != "late-interaction":
        scaling["batch_tokens"] = replicas.batch_tokens
    if replicas.gpu:
        scaling["memory_fraction"] = replicas.memory_fraction
        if is_mixed:
            scaling["gpu_kind"] = replicas.gpu
    return scaling
