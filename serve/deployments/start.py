"""How a replica of a model's deployment starts: threads, memory, logs and traces."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from cluster.deployments import DeploymentSpec, DeviceScaling
from cluster.metrics import count_out_of_memory
from cluster.settings import Settings
from serve.logs import log_as_service
from serve.tracing import Trace

T = TypeVar("T")
STARTING_NICENESS = 19


def at_low_priority(load: Callable[[], T]) -> T:
    """Load a model on a thread that gives way to replicas that answer; returns what it returns.

    To import what a model needs and to load it takes all of a core for ten seconds and more. Linux
    has a niceness for each thread, and the one that answers requests later keeps its own.
    """

    def run() -> T:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), STARTING_NICENESS)
        return load()

    with ThreadPoolExecutor(1, thread_name_prefix="load") as thread:
        return thread.submit(run).result()


class ModelDeployment:
    """Base class of every deployment that holds a model: threads, GPU memory, logs and traces.

    Subclasses are constructed with (spec, settings, models).
    """

    def __init__(self, spec: DeploymentSpec, settings: Settings) -> None:
        log_as_service()
        at_low_priority(lambda: _limit(spec.scaling(settings)))
        self._trace = Trace(f"quire-{spec.name.replace('_', '-')}", settings.otlp_endpoint)
        self._count_out_of_memory = partial(count_out_of_memory, spec.name)

    async def ready(self) -> bool:
        """Answered once the model is loaded."""
        return True


def _limit(scaling: DeviceScaling) -> None:
    """Bound what the model may take of the machine; the first to import torch."""
    from models.engine.device import limit_gpu_memory, use_threads

    use_threads(scaling.threads)
    limit_gpu_memory(scaling.memory_fraction)
