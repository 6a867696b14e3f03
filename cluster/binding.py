"""A plan's replicas → the settings that ingest and serve take from it (`--plan FILE`)."""

import math
from typing import Any

from cluster.plan import IngestPlan, Replicas, ServingPlan
from cluster.workload import Candidate, Workload

ROUTERS = 2
ROUTER_QPS = 50  # of one router (benchmarks/serving.py), with room
MODEL_CPUS = 2  # that Ray reserves for a replica: host threads that decode and tokenise
SCALED = {
    "embedder": "embedder_replicas",
    "reranker": "reranker_replicas",
    "late-interaction": "late_interaction_replicas",
}


def settings_of(
    workload: Workload,
    embedder: Candidate,
    ingest: IngestPlan | None,
    serving: ServingPlan | None,
) -> dict[str, Any]:
    """Settings by name; nested ones hold only what is planned."""
    parts = [*(ingest.workers if ingest else ()), *(serving.replicas if serving else ())]
    found: dict[str, Any] = {"model": embedder.name, "precision": parts[0].precision}
    for name in ("max_pixels", "dimensions"):
        if value := getattr(workload, name):
            found[name] = value
    if workload.multi_vectors != "off":
        found["multi_vectors"] = workload.multi_vectors
        if workload.late_interaction:
            found["late_interaction"] = workload.late_interaction
    if workload.quality == "on":
        found["quality"] = "on"
    if ingest:
        found |= _of_ingest(ingest)
    if serving:
        found |= _of_serving(serving, workload)
    return found


def _of_ingest(ingest: IngestPlan) -> dict[str, Any]:
    workers = ingest.workers
    found: dict[str, Any] = {
        # One job has one budget: that of the smallest card.
        "batch_tokens": min(each.batch_tokens for each in workers),
        "workers": sum(each.count for each in workers),
        "render_workers": ingest.render_cpus,
    }
    if ingest.gpus:
        found["gpus_per_worker"] = max(each.gpu_share for each in workers)
        found["gpu_memory_fraction"] = min(each.memory_fraction for each in workers)
    return found


def _of_serving(serving: ServingPlan, workload: Workload) -> dict[str, Any]:
    found: dict[str, Any] = {"rerank": "none"}
    if serving.gpus:  # two, so that one may go
        most = max(ROUTERS, math.ceil(serving.qps / ROUTER_QPS))
        found["router"] = {"min_replicas": ROUTERS, "max_replicas": most}
    for each in serving.replicas:
        if each.role not in SCALED:
            continue  # room is kept: an indexer takes a share like the embedder's
        found[SCALED[each.role]] = _scaling(each, len(serving.gpus) > 1)
        if each.role == "reranker":
            found |= {
                "rerank": "cross-encoder",
                "reranker": each.model,
                "rerank_precision": each.precision,
                "rerank_batch_tokens": each.batch_tokens,
                "rerank_k": workload.rerank_k,
            }
    return found


def _scaling(replicas: Replicas, is_mixed: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "min_replicas": math.ceil(replicas.count / 2),
        "max_replicas": replicas.count,
        "cpus": MODEL_CPUS,
        "gpus": replicas.gpu_share,
    }
    if replicas.role != "late-interaction":
        found["batch_tokens"] = replicas.batch_tokens
    if replicas.gpu:
        found["memory_fraction"] = replicas.memory_fraction
    if is_mixed:
        found["gpu_kind"] = replicas.gpu
    return found
