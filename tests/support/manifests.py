"""The sets of manifests that tests look at, and parts of them."""

from typing import Any

from cluster.capacity.workload import load_workload
from cluster.plan import IngestPlan, Plan, ReplicaMemory, Replicas, Role, ServingPlan, Storage
from cluster.settings import GIB, load_settings
from jobs.capacity.plan import plan_capacity
from tests.support.kubernetes import Manifest, cluster_of, of_kind

HAND_KEPT = (
    "overlays/laptop",
    "overlays/single-gpu",
    "overlays/single-gpu/ingest",
    "overlays/multi-gpu",
    "overlays/multi-gpu/ingest",
)
EMITTED = ("emitted", "emitted/ingest")
# What the planner itself makes: on two kinds of GPU, without reranking, and an ingest alone.
WORKLOADS: dict[str, dict[str, Any]] = {
    "mixed": {"gpus": "L4:8,H100:4", "pages": 10**6, "deadline": "24h", "qps": 3, "p95": "2s"},
    "plain": {"gpus": "L4", "pages": 10_000, "qps": 1, "rerank_k": 0},
    "alone": {"gpus": "H100:2", "pages": 10**6},
}
PLANNED = ("mixed", "mixed/ingest", "plain", "plain/ingest", "alone/ingest")
SECRETS = ("store-token", "redis-password", "minio-accesskey", "minio-secretkey")
# Made by a person, where wanted (docs/kubernetes.md).
OTHER_SECRETS = {"quire-huggingface", "quire-metrics", "quire-s3"}


def replicas(role: Role, gpu: str, count: int, share: float) -> Replicas:
    memory = ReplicaMemory(5 * GIB, GIB, 2 * GIB, GIB, GIB // 2, GIB)
    model = "qwen3-vl-reranker-2b" if role == "reranker" else "qwen3-vl-embedding-2b"
    return Replicas(role, model, "bf16", gpu, count, share, share, 16_384, memory, 2, 9, 0.5, False)


def scaling(count: int, share: float) -> dict[str, Any]:
    return {"min_replicas": 1, "max_replicas": count, "cpus": 2, "gpus": share}


def planned() -> Plan:
    """Two L4 that serve; they and one H100 embed."""
    served = (replicas("embedder", "L4", 2, 0.4), replicas("reranker", "L4", 2, 0.6))
    embedding = (replicas("embedder", "H100", 2, 0.5), replicas("embedder", "L4", 2, 1.0))
    return Plan(
        model="qwen3-vl-embedding-2b",
        precision="bf16",
        ingest=IngestPlan(embedding, {"H100": 1, "L4": 2}, 10**6, 100, 3, 50, render_cpus=40),
        serving=ServingPlan(served, {"L4": 2}, 10, 20, 1, 3),
        storage=Storage(10**6, 5 * 10**6, 1, 20 * GIB, 60 * GIB, 300 * GIB),
        settings={
            "model": "qwen3-vl-embedding-2b",
            "precision": "bf16",
            "max_pixels": 1_048_576,
            "workers": 4,
            "render_workers": 40,
            "gpus_per_worker": 0.5,
            "batch_tokens": 16_384,
            "rerank": "cross-encoder",
            "reranker": "qwen3-vl-reranker-2b",
            "rerank_k": 20,
            "embedder_replicas": scaling(2, 0.4),
            "reranker_replicas": scaling(2, 0.6),
        },
        expected_error=0.5,
    )


def plan_of(name: str) -> Plan:
    """The planner's cheapest."""
    return plan_capacity(load_settings(), load_workload(None, **WORKLOADS[name])).plans[0]


def ray_of(manifests: list[Manifest]) -> Manifest:
    (found,) = [*of_kind(manifests, "RayService"), *of_kind(manifests, "RayJob")]
    return found


def groups_of(manifest: Manifest) -> dict[str, Manifest]:
    return {each["groupName"]: each for each in cluster_of(manifest).get("workerGroupSpecs", [])}


def resources(group: Manifest) -> dict[str, str]:
    requests = group["template"]["spec"]["containers"][0]["resources"]["requests"]
    return {str(name): str(value) for name, value in requests.items()}
