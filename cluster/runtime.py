"""Ray: connect to a cluster, or start one on this machine and shut down what we started."""

import logging
import math
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import ray

from cluster.environment import default_environment
from cluster.errors import InvalidInput
from cluster.hardware import cpu_cores, detect_gpus
from cluster.settings import Settings

# Logical CPUs of our own Ray beyond the real ones: checking, splitting and writing mostly wait, and
# a pipeline whose workers cannot all be placed would wait for ever.
WAITING_STAGE_CPUS = 4
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
GPU_LABEL = "quire.dev/gpu"  # of a node of Ray: the kind of its GPUs
OBJECT_STORE_SHARE = 0.15  # of the machine's memory, for a Ray of our own
OBJECT_STORE_MAX_BYTES = 4 * 2**30


@contextmanager
def ray_session(settings: Settings, *, extra_cpus: float = 0) -> Iterator[None]:
    """A Ray that can run jobs: the cluster at `ray_address`, or one of our own.

    One of our own gets `extra_cpus` logical CPUs beside those that an ingest needs. Raises
    InvalidInput where no Ray answers at that address.
    """
    if ray.is_initialized():
        yield
        return
    # Ray's C++ side logs harmless facts about actors as errors.
    default_environment(RAY_BACKEND_LOG_LEVEL="fatal")
    with _silent_stderr(), _own_sigterm():
        _init(settings, extra_cpus)
    # Ray prints on standard output what it finds out about workers that died: the report says it.
    ray._private.worker._worker_logs_enabled = False
    try:
        yield
    finally:
        ray.shutdown()


def _init(settings: Settings, extra_cpus: float) -> None:
    if settings.ray_address:
        try:
            ray.init(address=settings.ray_address, log_to_driver=False)
        except ConnectionError as error:
            raise InvalidInput(
                f"no Ray answers at {settings.ray_address}: correct ray_address, or leave it empty "
                "to start one here"
            ) from error
        return
    memory = int(psutil.virtual_memory().total * OBJECT_STORE_SHARE)
    ray.init(
        address="local",  # never one that happens to run here and has other resources
        num_cpus=cpu_cores()
        + settings.workers
        + settings.render_workers
        + WAITING_STAGE_CPUS
        + math.ceil(extra_cpus),
        object_store_memory=min(memory, OBJECT_STORE_MAX_BYTES),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        labels=_own_labels(),
    )


def _own_labels() -> dict[str, str]:
    """Return the kind of this machine's GPUs, where they are of one kind."""
    kinds = list(detect_gpus())
    return {GPU_LABEL: kinds[0]} if len(kinds) == 1 and LABEL.fullmatch(kinds[0]) else {}


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray's C++ side would abort this process on SIGTERM, and leave what it started behind."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Ray announces its log level on file descriptor 2; failures are exceptions all the same."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def is_running() -> bool:
    """True where this process is connected to a Ray."""
    return bool(ray.is_initialized())


def on_kind(kind: str) -> dict[str, Any]:
    """Ray's option for work that only nodes with GPUs of this kind may do; none if it is ""."""
    return {"label_selector": {GPU_LABEL: kind}} if kind else {}


def cluster_gpus() -> float:
    """GPUs that Ray has."""
    return float(ray.cluster_resources().get("GPU", 0))


def require_gpus(share: float, kind: str, what: str) -> None:
    """Raise InvalidInput where this Ray has too few GPUs, of a kind if one is named."""
    gpus = gpus_of(kind) if kind else cluster_gpus()
    if gpus + 1e-6 < share:
        raise InvalidInput(
            f"{what} needs {share:g} {kind or 'GPU'}{'s' if share > 1 else ''}, and this Ray has "
            f"{gpus:g}{f' with the label {GPU_LABEL}={kind}' if kind else ''}: run it where they "
            "are, or plan for this machine (quire plan --gpus CPU)"
        )


def gpus_of(kind: str) -> float:
    """GPUs on nodes that have this kind as their label."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    labelled = [node for node in nodes if node.get("Labels", {}).get(GPU_LABEL) == kind]
    return sum(float(node["Resources"].get("GPU", 0)) for node in labelled)


def free_gpus() -> float:
    """GPUs that nobody holds: a service may run on the same Ray."""
    return float(ray.available_resources().get("GPU", 0))


def free_cpus() -> float:
    """CPUs that nobody holds, those that we add to our own included."""
    return float(ray.available_resources().get("CPU", 0))


def cluster_cpus() -> int:
    """CPU cores of the cluster, without the logical ones that we add to our own."""
    total = int(ray.cluster_resources().get("CPU", 1))
    return total if cluster_nodes() > 1 else min(total, cpu_cores())


def cluster_nodes() -> int:
    """Machines in the cluster."""
    return sum(bool(node["Alive"]) for node in ray.nodes())
