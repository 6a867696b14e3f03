"""A plan's replicas → pods: how many of which size, for the service and for the ingest.

GPU pods have whole GPUs; Ray shares them out. CPUs and memory are enough for whichever replicas
Ray packs together.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cluster.deployments import DEPLOYMENTS, INDEXER_CPUS, ROUTER_SCALING, Scaling, deployment_of
from cluster.errors import InvalidInput
from cluster.plan import IngestPlan, Plan, Replicas, ServingPlan
from cluster.settings import GIB, Settings

UPLOAD_CPUS = 4  # to check, render and write uploads while the service runs
SERVICE_POD_CPUS = 4
SERVICE_BYTES_PER_CPU = 2 * GIB
PIPELINE_CPUS = 3  # of an ingest beside its rendering: checks, splits, the writer
RENDER_POD_CPUS = 8
WORKER_CPUS = 1  # of an embedding worker, which waits for its GPU or is the CPU's one thread
PROCESS_BYTES = 4 * GIB  # of a process with PyTorch and CUDA, beside the weights that it loads
RENDERER_BYTES = GIB // 2  # of the worker around a renderer, which has a limit of its own
HEAP_SHARE = 0.7  # of a pod's memory: Ray's object store takes the rest


@dataclass(frozen=True)
class Pods:
    """From `least` to `most` equal pods; `gpu` is "" and `gpus` 0 where they have none."""

    least: int
    most: int
    cpus: int
    memory_bytes: int
    gpu: str = ""
    gpus: int = 0

    @property
    def name(self) -> str:
        """Return the name of the worker group, as Kubernetes wants names."""
        return f"gpu-{self.gpu}".lower() if self.gpu else "cpu"


@dataclass(frozen=True)
class _Need:
    """What one replica takes of a pod."""

    share: float
    cpus: float
    memory_bytes: int


def service_pods(plan: Plan, serving: ServingPlan) -> list[Pods]:
    """Size the pods of a service, those without a GPU first. Raises InvalidInput."""
    known = {spec.role for spec in DEPLOYMENTS} | {"indexer"}
    if strange := {each.role for each in serving.replicas} - known:
        raise InvalidInput(
            f"Quire deploys no {', '.join(sorted(strange))}: plan the cluster without it, and run "
            "it on cards of its own"
        )
    groups = [_service_cpu_pods(plan, serving)]
    for kind, count in serving.gpus.items():
        replicas = [each for each in serving.replicas if each.gpu == kind]
        scalings = [_scaling_of(plan, each) for each in replicas]
        needs = [
            _Need(each.gpu_share, scaling.cpus, _process_bytes(each))
            for each, scaling in zip(replicas, scalings, strict=True)
        ]
        least_share = sum(
            each.gpu_share * min(scaling.min_replicas, each.count)
            for each, scaling in zip(replicas, scalings, strict=True)
        )
        groups.append(_gpu_pods(kind, count, needs, least_share))
    return groups


def ingest_pods(plan: Plan, ingest: IngestPlan) -> list[Pods]:
    """Size the pods of an ingest, those without a GPU first. Raises InvalidInput."""
    groups = [_render_pods(plan, ingest)]
    for kind, count in ingest.gpus.items():
        workers = [each for each in ingest.workers if each.gpu == kind]
        needs = [_Need(each.gpu_share, WORKER_CPUS, _process_bytes(each)) for each in workers]
        groups.append(_gpu_pods(kind, count, needs, float(count)))
    return groups


def _gpu_pods(kind: str, count: int, needs: list[_Need], least_share: float) -> Pods:
    """Pods for `count` GPUs, each with as many as the largest replica takes."""
    if not needs or any(need.share <= 0 for need in needs):
        raise InvalidInput(f"the plan has {kind} GPUs without replicas that take a share of them")
    gpus = max(math.ceil(need.share) for need in needs)
    if count % gpus:
        raise InvalidInput(f"the plan has {count} {kind} GPUs, and a replica that takes {gpus}")
    return Pods(
        least=math.ceil(min(count, math.ceil(least_share)) / gpus),
        most=count // gpus,
        # As if it held nothing but what needs the most for its share.
        cpus=math.ceil(max(need.cpus / need.share for need in needs) * gpus),
        memory_bytes=_with_store(max(need.memory_bytes / need.share for need in needs) * gpus),
        gpu=kind,
        gpus=gpus,
    )


def _service_cpu_pods(plan: Plan, serving: ServingPlan) -> Pods:
    """Return the router, the indexer, and the models that are on no GPU."""
    on_gpu = {each.role for each in serving.replicas if each.gpu}
    scalings = [
        _scaling(plan, "router", ROUTER_SCALING),
        *(
            _scaling(plan, spec.settings_field, spec.default)
            for spec in DEPLOYMENTS
            if spec.role not in on_gpu
        ),
    ]
    cpus = max(SERVICE_POD_CPUS, *(math.ceil(each.cpus) for each in scalings))
    least = INDEXER_CPUS + sum(each.cpus * each.min_replicas for each in scalings)
    most = INDEXER_CPUS + sum(each.cpus * each.max_replicas for each in scalings)
    pods = math.ceil((2 * most + UPLOAD_CPUS) / cpus)  # twice: an update starts the new ones first
    memory = cpus * SERVICE_BYTES_PER_CPU
    return Pods(min(pods, math.ceil(least / cpus)), pods, cpus, memory)


def _render_pods(plan: Plan, ingest: IngestPlan) -> Pods:
    workers = sum(each.count for each in ingest.workers if not each.gpu)
    total = ingest.render_cpus + PIPELINE_CPUS + workers * WORKER_CPUS
    pods = math.ceil(total / RENDER_POD_CPUS)
    cpus = math.ceil(total / pods)
    renderer = _setting(plan, "render_memory_bytes") + RENDERER_BYTES
    embedder = max((_process_bytes(each) for each in ingest.workers if not each.gpu), default=0)
    return Pods(pods, pods, cpus, _with_store(cpus * max(renderer, embedder)))


def _process_bytes(replicas: Replicas) -> int:
    return PROCESS_BYTES + replicas.memory.weights


def _with_store(heap_bytes: float) -> int:
    """Return a pod's memory, in whole GiB."""
    return math.ceil(heap_bytes / HEAP_SHARE / GIB) * GIB


def _scaling_of(plan: Plan, replicas: Replicas) -> Scaling:
    spec = deployment_of(replicas.role)
    if spec is None:  # the indexer: its worker comes with a job, and its share must be there
        return Scaling(min_replicas=1, max_replicas=replicas.count, cpus=WORKER_CPUS)
    return _scaling(plan, spec.settings_field, spec.default)


def _scaling(plan: Plan, name: str, default: Scaling) -> Scaling:
    """Return a deployment's scaling, with defaults for what the plan leaves out."""
    return type(default)(**{**default.model_dump(), **plan.settings.get(name, {})})


def _setting(plan: Plan, name: str) -> Any:
    return plan.settings.get(name, Settings.model_fields[name].default)


def least_pods(groups: Iterable[Pods]) -> int:
    """Pods that are always there."""
    return sum(each.least for each in groups)
