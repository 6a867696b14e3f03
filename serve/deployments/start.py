"""How a replica of a model's deployment starts: threads, memory, logs and traces."""

from functools import partial

from cluster.deployments import DeploymentSpec
from cluster.metrics import count_out_of_memory
from cluster.settings import Settings
from serve.logs import log_as_service
from serve.tracing import Trace


class ModelDeployment:
    """Base class of every deployment that holds a model: threads, GPU memory, logs and traces.

    Subclasses are constructed with (spec, settings, models).
    """

    def __init__(self, spec: DeploymentSpec, settings: Settings) -> None:
        from models.engine.device import limit_gpu_memory, use_threads

        scaling = spec.scaling(settings)
        use_threads(scaling.threads)
        limit_gpu_memory(scaling.memory_fraction)
        log_as_service()
        self._trace = Trace(f"quire-{spec.name.replace('_', '-')}", settings.otlp_endpoint)
        self._count_out_of_memory = partial(count_out_of_memory, spec.name)

    async def ready(self) -> bool:
        """Answered once the model is loaded."""
        return True
