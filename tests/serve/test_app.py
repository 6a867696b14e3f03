"""The application's plan: what is deployed, and the file for a cluster."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from cluster.errors import InvalidInput
from cluster.settings import load_settings
from serve.app import application, build_app, emit_config, reserved_cpus
from serve.deployments.indexer import beside_the_service
from serve.deployments.models import ServedModels
from tests.support.serving import quire


def deployments(app: Any) -> dict[str, Any]:
    """Deployments of a bound application by name."""
    found = {app._bound_deployment.name: app._bound_deployment}
    for argument in app._bound_deployment.init_args:
        parts = argument.values() if isinstance(argument, dict) else (argument,)
        for part in parts:
            if hasattr(part, "_bound_deployment"):
                found |= deployments(part)
    return found


def test_each_deployment_scales_by_its_own_settings() -> None:
    settings = load_settings(
        embedder_replicas={"min_replicas": 0, "max_replicas": 4, "gpus": 0.5, "cpus": 2},
        reranker_replicas={"max_replicas": 3, "target_ongoing_requests": 1, "downscale_delay_s": 9},
        quality_replicas={"max_replicas": 2, "gpus": 0.25, "cpus": 0.5, "gpu_kind": "L4"},
    )
    found = deployments(application(settings, is_local=True))
    models = {"embedder", "reranker", "late_interaction", "quality"}
    assert set(found) == {"router", "indexer", *models}
    embedder, reranker = found["embedder"], found["reranker"]
    scaling = embedder._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (0, 4)
    assert embedder.ray_actor_options == {"num_cpus": 2, "num_gpus": 0.5}
    scaling = reranker._deployment_config.autoscaling_config
    assert (scaling.max_replicas, scaling.target_ongoing_requests) == (3, 1)
    assert scaling.downscale_delay_s == 9
    quality = found["quality"]
    scaling = quality._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (0, 2)
    on_l4 = {"label_selector": {"quire.dev/gpu": "L4"}}
    assert quality.ray_actor_options == {"num_cpus": 0.5, "num_gpus": 0.25, **on_l4}
    replicas = 4 * 2 + 3 * 2 + 2 * 0.5 + 1 + 1 + 0.5
    assert reserved_cpus(settings) == 2 * replicas  # an update has both
    assert settings.router.target_ongoing_requests == 64  # what is not named stays
    scaling = load_settings(router={"max_replicas": 3}).router
    assert (scaling.max_replicas, scaling.target_ongoing_requests) == (3, 64)


def test_uploads_take_a_share_of_a_gpu_like_an_embedder() -> None:
    own = {"gpus": 0.5, "memory_fraction": 0.4, "gpu_kind": "L4", "batch_tokens": 8192}
    settings = load_settings(embedder_replicas=own, batch_tokens=32_768, workers=8)
    found = beside_the_service(settings)
    assert (found.workers, found.gpus_per_worker, found.gpu_kind) == (1, 0.5, "L4")
    assert (found.gpu_memory_fraction, found.batch_tokens) == (0.4, 8192)
    plain = load_settings(workers=8)
    assert beside_the_service(plain) == plain


def test_without_knowing_where_it_listens_the_application_asks_for_keys() -> None:
    router = deployments(build_app({"allow_anonymous": False}))["router"]
    assert router.init_kwargs == {"is_local": False}


@pytest.mark.services
def test_the_emitted_file_is_one_that_ray_deploys(tmp_path: Path) -> None:
    text = quire(
        "serve", "--emit-config", "--store", str(tmp_path / "x" / ".." / "store"), "--port", "8123"
    )
    config = yaml.safe_load(text)
    ServeDeploySchema.model_validate(config)
    (app,) = config["applications"]
    assert app["import_path"] == "serve.app:build_app"
    assert config["http_options"] == {"host": "127.0.0.1", "port": 8123}
    settings = load_settings(**app["args"])  # what the replicas will have
    assert settings.data_dir == tmp_path / "store" and settings.port == 8123
    assert Path(settings.page_images_url).is_absolute()
    assert Path(settings.uploads_url).is_absolute() and settings.keys_path.is_absolute()


def test_secrets_stay_out_of_the_file() -> None:
    settings = load_settings(store="http://milvus:19530", store_user="u", store_token="hush")
    assert "hush" not in yaml.safe_dump(emit_config(settings))


def test_scaling_that_cannot_be() -> None:
    with pytest.raises(InvalidInput, match="max_replicas"):
        load_settings(router={"min_replicas": 3, "max_replicas": 2})
    with pytest.raises(InvalidInput, match="batch_tokens"):
        load_settings(router={"batch_tokens": 2})  # it has no model


@pytest.mark.services
def test_the_port_in_use_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PORT_IN_USE], capture_output=True, text=True, timeout=60, check=True
    )
    assert "name another with --port" in done.stdout


PORT_IN_USE = """
import socket
from cluster.errors import InvalidInput
from cluster.settings import load_settings
from serve.launch import serving
with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    try:
        with serving(load_settings(port=taken.getsockname()[1])):
            pass
    except InvalidInput as error:
        print(error)
"""


def test_replicas_that_ask_for_a_gpu_run_in_bf16_before_there_is_one() -> None:
    settings = load_settings(embedder_replicas={"gpus": 1}, reranker_replicas={"gpus": None})
    models = ServedModels.from_settings(settings, has_gpu=False)
    assert (models.embedder.precision, models.reranker.precision) == ("bf16", "fp32")
    chosen = load_settings(precision="fp32", embedder_replicas={"gpus": 1})
    assert ServedModels.from_settings(chosen, has_gpu=True).embedder.precision == "fp32"
