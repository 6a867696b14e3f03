"""The application: router, embedder, reranker and indexer, each scaled by its own settings.

`quire serve` runs it; so do `serve run serve.app:build_app` and the file that
`quire serve --emit-config` writes. Only here are replicas, GPUs and autoscaling.
"""

import math
from typing import Any

from ray import serve

from cluster.runtime import cluster_gpus, cpu_cores, is_running
from cluster.settings import ReplicaSettings, Settings, load_settings
from models.options import EmbedderOptions, RerankerOptions
from serve.embedder import EmbedderDeployment
from serve.indexer import IndexerDeployment
from serve.reranker import RerankerDeployment
from serve.router import Models, Router
from serve.web import build_http

APP = "quire"
DRAIN_S = 20.0  # a replica that is replaced may finish its requests
HEALTH_S = 5.0
INDEXER_CPUS = 0.5
INDEXER_CALLS = 1000
# Beyond the router's own limit, which answers with the one shape of errors.
BEYOND = 2
LOGGING = {"encoding": "JSON", "enable_access_log": False}


def build_app(args: dict[str, Any] | None = None) -> serve.Application:
    """The application of settings: `args` are settings by name, the rest comes as always.

    Raises InvalidInput or ModelUnavailable.
    """
    return application(load_settings(**(args or {})))


def application(settings: Settings) -> serve.Application:
    """The application of settings. Raises InvalidInput or ModelUnavailable."""
    has_gpu = is_running() and cluster_gpus() > 0
    models = Models(
        EmbedderOptions.from_settings(settings, has_gpu=has_gpu),
        RerankerOptions.from_settings(settings, has_gpu=has_gpu),
    )
    otlp = settings.otlp_endpoint
    embedder = _scaled(EmbedderDeployment, "embedder", settings.embedder_replicas, has_gpu).bind(
        models.embedder, settings.embedder_replicas, _threads(settings.embedder_replicas), otlp
    )
    reranker = _scaled(RerankerDeployment, "reranker", settings.reranker_replicas, has_gpu).bind(
        models.reranker, settings.reranker_replicas, _threads(settings.reranker_replicas), otlp
    )
    deploy_indexer: Any = serve.deployment(
        name="indexer",
        num_replicas=1,
        max_ongoing_requests=INDEXER_CALLS,
        ray_actor_options={"num_cpus": INDEXER_CPUS},
        logging_config=LOGGING,
    )
    indexer = deploy_indexer(IndexerDeployment).bind(settings)
    router = _scaled(serve.ingress(build_http)(Router), "router", settings.router, False)
    app: serve.Application = router.bind(settings, models, embedder, reranker, indexer)
    return app


def reserved_cpus(settings: Settings) -> float:
    """CPUs that all replicas reserve at most."""
    scalings = (settings.router, settings.embedder_replicas, settings.reranker_replicas)
    return INDEXER_CPUS + sum(each.cpus * each.max_replicas for each in scalings)


def _scaled(kind: Any, name: str, scaling: ReplicaSettings, has_gpu: bool) -> Any:
    gpus = scaling.gpus if scaling.gpus is not None else float(has_gpu)
    deploy: Any = serve.deployment(
        name=name,
        max_ongoing_requests=scaling.max_ongoing_requests * BEYOND,
        max_queued_requests=scaling.max_queued_requests,
        autoscaling_config={
            "min_replicas": scaling.min_replicas,
            "max_replicas": scaling.max_replicas,
            "target_ongoing_requests": scaling.target_ongoing_requests,
            "upscale_delay_s": scaling.upscale_delay_s,
            "downscale_delay_s": scaling.downscale_delay_s,
        },
        ray_actor_options={"num_cpus": scaling.cpus, "num_gpus": gpus},
        graceful_shutdown_timeout_s=DRAIN_S,
        health_check_period_s=HEALTH_S,
        logging_config=LOGGING,
    )
    return deploy(kind)


def _threads(scaling: ReplicaSettings) -> int:
    """Threads of a model on a CPU: what it reserves, or the machine where only one runs."""
    return max(math.ceil(scaling.cpus), cpu_cores() if scaling.max_replicas == 1 else 1)


def emit_config(settings: Settings) -> dict[str, Any]:
    """A `serve deploy` file for these settings."""
    given = settings.model_dump(mode="json", exclude_defaults=True, exclude={"store_token"})
    return {
        "http_options": {"host": settings.host, "port": settings.port},
        "logging_config": LOGGING,
        "applications": [
            {
                "name": APP,
                "route_prefix": "/",
                "import_path": "serve.app:build_app",
                "args": given,
            }
        ],
    }
