"""The application: router, models and indexer, each scaled by its own settings.

`quire serve` runs it; so do `serve run serve.app:build_app` and the file that
`quire serve --emit-config` writes. Only this file turns scaling settings into Ray Serve's options.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from ray import serve

from cluster.capacity.fit import in_two_processes
from cluster.capacity.formulas import replica_memory
from cluster.capacity.shares import UPLOADS, with_gpu_shares
from cluster.deployments import DEPLOYMENTS, INDEXER_CPUS, DeviceScaling, Scaling
from cluster.errors import InvalidInput
from cluster.hardware import accelerators, detect_gpus
from cluster.plan import ReplicaMemory
from cluster.runtime import cluster_gpus, cluster_nodes, is_running, on_kind
from cluster.settings import Settings, load_settings
from models.ocr_quality.files import load_card
from models.ocr_quality.predictor import predictor_folder
from models.registry import ModelSpec
from serve.deployments.indexer import IndexerDeployment
from serve.deployments.models import ServedModels
from serve.router import Router
from serve.web.application import build_http

APP = "quire"
DRAIN_S = 5.0  # beyond the longest request: a replica that is replaced may finish its own
HEALTH_S = 5.0
INDEXER_CALLS = 1000
# Ray Serve admits twice the router's own limit, so that our middleware refuses what is too much,
# with our error body and not with Ray Serve's.
ROUTER_HEADROOM = 2
PATHS = ("store", "page_images", "uploads", "keys_file", "shared_folder", "quality_model")
LOGGING = {"encoding": "JSON", "enable_access_log": False}


def build_app(args: dict[str, Any] | None = None) -> serve.Application:
    """Return the application of settings: `args` are settings by name, the rest comes as always.

    Where it listens is up to Ray Serve's own options here, so keys are needed unless
    `allow_anonymous` is set. Raises InvalidInput or ModelUnavailable.
    """
    return application(load_settings(**(args or {})), is_local=False)


def application(settings: Settings, *, is_local: bool) -> serve.Application:
    """Return the application of settings; `is_local` is true where nobody else can reach it.

    Raises InvalidInput or ModelUnavailable.
    """
    _check_shared(settings)
    settings = gpu_shares_chosen(settings)
    has_gpu = is_running() and cluster_gpus() > 0
    models = ServedModels.from_settings(settings, has_gpu=has_gpu)
    load_card(predictor_folder(settings))  # what is missing shows here, not with a request
    public = settings.model_copy(update={"store_token": SecretStr("")})  # no model needs it
    handles = {
        spec.name: _scaled(
            _load_class(spec.class_path), spec.name, settings, spec.scaling(settings), has_gpu
        ).bind(spec, public, models)
        for spec in DEPLOYMENTS
    }
    deploy_indexer: Any = serve.deployment(
        name="indexer",
        num_replicas=1,
        max_ongoing_requests=INDEXER_CALLS,
        ray_actor_options={"num_cpus": INDEXER_CPUS},
        logging_config=LOGGING,
    )
    indexer = deploy_indexer(IndexerDeployment).bind(settings, handles["embedder"])
    router = _scaled(serve.ingress(build_http)(Router), "router", settings, settings.router, False)
    app: serve.Application = router.bind(
        settings, models, tuple(DEPLOYMENTS), handles, indexer, is_local=is_local
    )
    return app


def gpu_shares_chosen(settings: Settings) -> Settings:
    """Return the settings with a share of this Ray's GPUs for each deployment that has none set.

    Raises InvalidInput where they do not fit; on a cluster, to which an autoscaler may bring more,
    such settings stay as they are. Raises ModelUnavailable.
    """
    gpus = int(cluster_gpus()) if is_running() else 0
    if not gpus:
        return settings
    is_cluster = bool(settings.ray_address) or cluster_nodes() > 1
    kinds = {} if is_cluster else detect_gpus()
    card = accelerators().get(next(iter(kinds))) if len(kinds) == 1 else None
    models = ServedModels.from_settings(settings, has_gpu=True)
    memory = {
        "embedder": _memory(models.embedder_spec, models.embedder.precision),
        "reranker": _memory(models.reranker_spec, models.reranker.precision),
    }
    if settings.multi_vectors != "off":  # an ingest's share holds both workers
        late = _memory(models.late_interaction_spec, "bf16")
        memory[UPLOADS] = in_two_processes(memory["embedder"], late)
    try:
        return with_gpu_shares(settings, gpus, memory, card)
    except InvalidInput:
        if is_cluster:
            return settings
        raise


def _memory(spec: ModelSpec, precision: str) -> ReplicaMemory:
    """Return the memory of a replica with the smallest batches that hold its longest input."""
    return replica_memory(spec.shape, precision, spec.max_tokens)


def reserved_cpus(settings: Settings) -> float:
    """CPUs that all replicas reserve at most, those of an update included."""
    scalings = [settings.router, *(spec.scaling(settings) for spec in DEPLOYMENTS)]
    return 2 * (INDEXER_CPUS + sum(scaling.cpus * scaling.max_replicas for scaling in scalings))


def _load_class(path: str) -> Any:
    """Return a class by module:name."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _check_shared(settings: Settings) -> None:
    """Raise InvalidInput where machines of a cluster would not see each other's files."""
    if not is_running() or cluster_nodes() == 1:
        return
    urls = {"uploads": settings.uploads_url, "page_images": settings.page_images_url}
    local = [name for name, url in urls.items() if "://" not in url]
    if settings.is_embedded or local or not settings.shared_folder:
        raise InvalidInput(
            "on a cluster every machine must reach what another one keeps: set `store` to a Milvus "
            "server, `uploads` and `page_images` to URLs (s3://…, or file://… for a shared folder) "
            "and `shared_folder` to a folder that all of them see"
        )


def _scaled(kind: Any, name: str, settings: Settings, scaling: Scaling, has_gpu: bool) -> Any:
    gpus, max_ongoing = 0.0, scaling.max_ongoing_requests * ROUTER_HEADROOM
    options: dict[str, Any] = {"num_cpus": scaling.cpus}
    if isinstance(scaling, DeviceScaling):
        gpus = scaling.gpus if scaling.gpus is not None else float(has_gpu)
        max_ongoing = scaling.max_ongoing_requests
        options |= on_kind(scaling.gpu_kind)
    deploy: Any = serve.deployment(
        name=name,
        max_ongoing_requests=max_ongoing,
        max_queued_requests=scaling.max_queued_requests,
        backpressure_config={"status_code": 503, "retry_after_s": 1},
        autoscaling_config={
            "min_replicas": scaling.min_replicas,
            "max_replicas": scaling.max_replicas,
            "target_ongoing_requests": scaling.target_ongoing_requests,
            "upscale_delay_s": scaling.upscale_delay_s,
            "downscale_delay_s": scaling.downscale_delay_s,
        },
        ray_actor_options=options | {"num_gpus": gpus},
        # In an update the new replicas come first. On GPUs there may be no room for both.
        max_surge_percent=0 if gpus else 100,
        graceful_shutdown_timeout_s=settings.request_timeout_s + DRAIN_S,
        health_check_period_s=HEALTH_S,
        logging_config=LOGGING,
    )
    return deploy(kind)


def emit_config(settings: Settings) -> dict[str, Any]:
    """Return a `serve deploy` file for these settings."""
    # A scaling that was changed is written with all its fields: a part of one would be completed
    # from other defaults where it is loaded.
    changed = {
        name
        for name, field in Settings.model_fields.items()
        if getattr(settings, name) != field.default
    }
    # The plan is in what it set.
    given = settings.model_dump(mode="json", include=changed - {"store_token", "plan"})
    absolute = settings.with_absolute_paths().model_dump(mode="json")
    given |= {name: absolute[name] for name in PATHS if absolute[name]} | {"host": settings.host}
    for name in ("model", "reranker", "late_interaction"):
        if (folder := getattr(settings, name)) and Path(folder).is_dir():
            given[name] = str(Path(folder).resolve())
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
