"""A new deployment is one row of the table and one class: everything else loops over the table."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.capacity.workload import load_workload
from cluster.deployments import DEPLOYMENTS, deployment_of, find_deployment
from cluster.kubernetes.manifests import manifests
from cluster.kubernetes.pods import service_pods
from cluster.plan import Plan
from cluster.settings import load_settings
from jobs.capacity.plan import plan_capacity
from serve.app import application, reserved_cpus
from tests.support.echo import ECHO, EchoDeployment

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def plan() -> Plan:
    workload = load_workload(None, gpus="H100:4", qps=1, p95="3s")
    return plan_capacity(load_settings(), workload).plans[0]


@pytest.fixture
def echo(plan: Plan) -> Iterator[None]:
    DEPLOYMENTS.append(ECHO)
    yield
    DEPLOYMENTS.remove(ECHO)


def deployed() -> dict[str, Any]:
    """Deployments of the application by name."""
    router = application(load_settings(), is_local=True)._bound_deployment
    handles, indexer = router.init_args[3:]  # type: ignore[misc]
    bound = [router, indexer._bound_deployment]
    bound += [handle._bound_deployment for handle in handles.values()]
    return {deployment.name: deployment for deployment in bound}


def test_every_row_has_a_class_a_setting_and_its_default() -> None:
    settings = load_settings()
    for spec in DEPLOYMENTS:
        assert spec.scaling(settings) == spec.default
        assert type(settings).model_fields[spec.settings_field].default == spec.default
        assert find_deployment(spec.name) is spec and deployment_of(spec.role) is spec
    asleep = [spec.name for spec in DEPLOYMENTS if spec.may_sleep(settings)]
    assert asleep == ["late_interaction", "quality"]
    assert deployment_of("indexer") is None
    assert set(deployed()) == {"router", "indexer", *(spec.name for spec in DEPLOYMENTS)}


def test_a_new_row_is_in_the_application(echo: None) -> None:
    deployment = deployed()["echo"]
    assert deployment.ray_actor_options == {"num_cpus": 3, "num_gpus": 0}
    assert deployment.func_or_class is EchoDeployment or "EchoDeployment" in str(
        deployment.func_or_class
    )


def test_a_new_row_counts_in_what_is_reserved_and_in_the_manifests(
    plan: Plan, request: pytest.FixtureRequest
) -> None:
    assert plan.serving is not None
    before = service_pods(plan, plan.serving)[0], reserved_cpus(load_settings())
    workers = manifests(plan, "quire:1")["workers.yaml"]
    request.getfixturevalue("echo")
    pods = service_pods(plan, plan.serving)[0]
    assert reserved_cpus(load_settings()) == before[1] + 2 * 3  # an update has both
    assert pods.most * pods.cpus >= before[0].most * before[0].cpus + 3
    assert manifests(plan, "quire:1")["workers.yaml"] != workers


def test_its_settings_go_to_the_service_and_not_to_the_ingest(echo: None, plan: Plan) -> None:
    plan.settings["echo_replicas"] = {"cpus": 5}
    pods = service_pods(plan, plan.serving)[0]  # type: ignore[arg-type]
    assert pods.cpus >= 5


SERVING = """
import json, sys
import httpx
from cluster.deployments import DEPLOYMENTS
from cluster.environment import free_port, prepare_serving
from cluster.settings import load_settings
prepare_serving()
from tests.support.echo import ECHO
from serve.launch import serving
DEPLOYMENTS.append(ECHO)
with serving(load_settings(store=sys.argv[1], port=free_port())) as url:
    print(json.dumps(httpx.get(f"{url}/readyz", timeout=60).json()))
"""


@pytest.mark.long
def test_a_new_row_is_in_readiness(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVING, str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=180,
        check=True,
    )
    checks = json.loads(done.stdout.splitlines()[-1])["checks"]
    assert checks["echo"] == "ok" and checks["embedder"] == "ok"
