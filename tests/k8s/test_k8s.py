"""The manifests, as kustomize builds them: valid, whole, safe, and what a plan says. No cluster."""

import json
import re
import shlex
import shutil
import tomllib
from dataclasses import replace
from fnmatch import fnmatch
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from ray.scripts.scripts import cli as ray_cli
from typer.main import get_command

from cluster.capacity.workload import load_workload
from cluster.errors import InvalidInput
from cluster.kubernetes.folder import LEDGER, write_manifests
from cluster.kubernetes.manifests import COPIED
from cluster.kubernetes.pods import ingest_pods, service_pods
from cluster.plan import IngestPlan, Plan, ReplicaMemory, Replicas, Role, ServingPlan, Storage
from cluster.settings import GIB, Settings, load_settings
from jobs.capacity.plan import plan_capacity
from quire import app
from serve.app import APP, emit_config, reserved_cpus
from tests.support.kubernetes import (
    K8S,
    ROOT,
    Manifest,
    build,
    cluster_of,
    environment,
    gib,
    of_kind,
    only,
    problems,
    run_kustomize,
    templates,
)

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


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Manifest]]:
    """Everything that is built, by its folder."""
    folder = tmp_path_factory.mktemp("k8s")
    write_manifests(planned(), folder / "emitted")
    for name in WORKLOADS:
        write_manifests(plan_of(name), folder / name)
    built = {name: build(K8S / name) for name in HAND_KEPT}
    return built | {name: build(folder / name) for name in (*EMITTED, *PLANNED, "alone")}


def plan_of(name: str) -> Plan:
    """The planner's cheapest."""
    return plan_capacity(load_settings(), load_workload(None, **WORKLOADS[name])).plans[0]


@pytest.fixture(params=(*HAND_KEPT, *EMITTED, *PLANNED))
def manifests(request: pytest.FixtureRequest, sets: dict[str, list[Manifest]]) -> list[Manifest]:
    return sets[request.param]


def ray_of(manifests: list[Manifest]) -> Manifest:
    (found,) = [*of_kind(manifests, "RayService"), *of_kind(manifests, "RayJob")]
    return found


def groups_of(manifest: Manifest) -> dict[str, Manifest]:
    return {each["groupName"]: each for each in cluster_of(manifest).get("workerGroupSpecs", [])}


def resources(group: Manifest) -> dict[str, str]:
    requests = group["template"]["spec"]["containers"][0]["resources"]["requests"]
    return {str(name): str(value) for name, value in requests.items()}


# Valid


def test_they_are_valid(manifests: list[Manifest]) -> None:
    for each in manifests:
        assert not problems(each), f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] != "Namespace":
            assert each["metadata"]["namespace"] == "quire"


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RayService", "spec.rayClusterConfig.enableInTreeAutoscaling", "yes"),
        ("RayService", "spec.rayClusterConfig.headGroupSpec.template.spec.hostNetwrok", True),
        ("RayService", "spec.upgradeStrategy.type", 3),
        ("Milvus", "spec.components.queryNode", 7),
        ("ServiceMonitor", "spec.endpoints", {}),
        ("NetworkPolicy", "spec.ingres", []),
        ("StatefulSet", "spec.replicas", "one"),
    ],
)
def test_what_is_wrong_is_found(
    sets: dict[str, list[Manifest]], kind: str, path: str, value: object
) -> None:
    broken = json.loads(json.dumps(of_kind(sets["overlays/single-gpu"], kind)[0]))
    *parents, last = path.split(".")
    inner = broken
    for name in parents:
        inner = inner[name]
    inner[last] = value
    assert problems(broken)


def test_everything_that_the_issue_names_is_there(sets: dict[str, list[Manifest]]) -> None:
    kinds = {each["kind"] for name in EMITTED for each in sets[name]}
    assert kinds >= {
        *("RayService", "RayJob", "Milvus", "PersistentVolumeClaim", "NetworkPolicy"),
        *("PodDisruptionBudget", "ServiceMonitor", "ConfigMap", "StatefulSet", "Service"),
    }
    dashboard = only(sets["emitted"], "ConfigMap", "quire-dashboard")
    assert json.loads(dashboard["data"]["quire.json"])["title"]


# Whole: what is named is there


def test_the_service_is_ours_and_its_settings_load(
    sets: dict[str, list[Manifest]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("overlays/laptop", "overlays/single-gpu", "overlays/multi-gpu", "emitted"):
        service = only(sets[name], "RayService")
        config = yaml.safe_load(service["spec"]["serveConfigV2"])
        expected = emit_config(Settings(host="0.0.0.0"))
        (application,), (like,) = config["applications"], expected["applications"]
        assert set(config) == set(expected) and set(application) == set(like)
        assert config["http_options"] == expected["http_options"]
        assert application["name"] == APP
        module, _, function = application["import_path"].partition(":")
        assert callable(getattr(import_module(module), function))
        head = cluster_of(service)["headGroupSpec"]["template"]["spec"]["containers"][0]
        with monkeypatch.context() as patched:
            for variable, value in environment(sets[name], head).items():
                patched.setenv(variable, value)
            settings = load_settings(**application["args"])
        if groups_of(service):  # many machines: serve/app.py asks for these
            assert not settings.is_embedded and settings.shared_folder
            assert "://" in settings.uploads and "://" in settings.page_images
        else:
            assert settings.is_embedded
        mounted = [each["mountPath"] for each in head["volumeMounts"]]
        for path in (settings.keys_path, settings.data_dir / "jobs"):
            assert any(path.is_relative_to(mount) for mount in mounted), path


def test_settings_in_the_environment_are_settings(manifests: list[Manifest]) -> None:
    for _, template in templates(manifests):
        for container in template["spec"]["containers"]:
            names = {each["name"] for each in container.get("env", [])}
            for name in names | set(environment(manifests, container)):
                if name.startswith("QUIRE_"):
                    assert name.removeprefix("QUIRE_").lower() in Settings.model_fields, name


def test_a_setting_stands_in_one_place(manifests: list[Manifest]) -> None:
    ray = ray_of(manifests)
    head = cluster_of(ray)["headGroupSpec"]["template"]["spec"]["containers"][0]
    shared = {name.lower() for name in environment(manifests, head)}
    config = yaml.safe_load(ray["spec"].get("serveConfigV2", "applications: [{args: {}}]"))
    assert not {f"quire_{name}" for name in config["applications"][0]["args"]} & shared


@pytest.mark.parametrize(
    ("service", "job"), [*zip(HAND_KEPT[1::2], HAND_KEPT[2::2], strict=True), EMITTED]
)
def test_service_and_ingest_see_the_same(
    sets: dict[str, list[Manifest]], service: str, job: str
) -> None:
    shared = [each for each in of_kind(sets[service], "ConfigMap") if "settings" in str(each)]
    assert of_kind(sets[job], "ConfigMap") == shared
    assert {each["kind"] for each in sets[job]} == {"ConfigMap", "RayJob"}
    both = [ray_of(sets[service]), ray_of(sets[job])]
    heads = [cluster_of(each)["headGroupSpec"]["template"]["spec"] for each in both]
    assert heads[0]["containers"][0]["image"] == heads[1]["containers"][0]["image"]
    assert heads[0]["volumes"] == heads[1]["volumes"]


def test_the_command_of_an_ingest_is_there(sets: dict[str, list[Manifest]]) -> None:
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    for name in ("overlays/single-gpu/ingest", "overlays/multi-gpu/ingest", "emitted/ingest"):
        job = only(sets[name], "RayJob")
        head = cluster_of(job)["headGroupSpec"]["template"]["spec"]["containers"][0]
        variables = environment(sets[name], head)
        program, command, *rest = shlex.split(job["spec"]["entrypoint"])
        assert (program, command) == ("quire", "ingest")
        for variable in re.findall(r"\$(\w+)", job["spec"]["entrypoint"]):
            assert variable in variables
        with commands[command].make_context(command, rest) as context:
            assert context.params["ray_address"] == "auto"  # not a Ray of its own
        assert job["spec"]["shutdownAfterJobFinishes"]
        assert "enableInTreeAutoscaling" not in cluster_of(job)  # its pods are there at once


def test_the_command_of_draining_is_there(manifests: list[Manifest]) -> None:
    for owner, template in templates(manifests):
        for container in template["spec"]["containers"]:
            if "preStop" not in container.get("lifecycle", {}):
                assert "worker" not in container["name"], owner
                continue
            _, _, script = container["lifecycle"]["preStop"]["exec"]["command"]
            drain, _, sleep = script.partition(";")
            program, *words = shlex.split(drain)
            assert program == "ray"
            # --help at the end: everything before it is parsed, and nothing is drained.
            shown = CliRunner().invoke(ray_cli, [*words, "--help"])
            assert shown.exit_code == 0, shown.output
            for option in re.findall(r"--[a-z-]+", drain):
                assert option in shown.output
            asleep_s = int(sleep.split()[-1])
            assert template["spec"]["terminationGracePeriodSeconds"] > asleep_s
            assert asleep_s > Settings.model_fields["request_timeout_s"].default


def test_names_lead_somewhere(sets: dict[str, list[Manifest]]) -> None:
    base = {name: sets[name] for name in sets if not name.endswith("ingest")}
    for name, manifests in sets.items():
        everything = [*manifests, *base.get(name.removesuffix("/ingest"), [])]
        claims = {each["metadata"]["name"] for each in of_kind(everything, "PersistentVolumeClaim")}
        maps = {each["metadata"]["name"] for each in of_kind(everything, "ConfigMap")}
        accounts = {each["metadata"]["name"] for each in of_kind(everything, "ServiceAccount")}
        for owner, template in templates(manifests):
            spec = template["spec"]
            volumes = {each["name"]: each for each in spec.get("volumes", [])}
            for volume in volumes.values():
                if claim := volume.get("persistentVolumeClaim"):
                    assert claim["claimName"] in claims
            assert spec.get("serviceAccountName", "quire") in accounts
            for container in spec["containers"]:
                for source in container.get("envFrom", []):
                    if "configMapRef" in source:
                        assert source["configMapRef"]["name"] in maps, owner
                mounts = {each["name"] for each in container["volumeMounts"]}
                assert mounts <= {*volumes, "data"}, owner  # data: the StatefulSet's own


def test_addresses_are_of_services_that_will_be(sets: dict[str, list[Manifest]]) -> None:
    manifests = sets["emitted"]
    ray = cluster_of(only(manifests, "RayService"))
    host, _, port = ray["gcsFaultToleranceOptions"]["redisAddress"].partition(":")
    service = only(manifests, "Service", host)
    assert int(port) in {each["port"] for each in service["spec"]["ports"]}
    redis = only(manifests, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= redis.items()
    head = ray["headGroupSpec"]["template"]["spec"]["containers"][0]
    store = environment(manifests, head)["QUIRE_STORE"]
    # Milvus' operator calls its service NAME-milvus.
    assert store == f"http://{only(manifests, 'Milvus')['metadata']['name']}-milvus:19530"
    ports = {each["name"] for each in head["ports"]}
    (endpoint,) = only(manifests, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] in ports and endpoint["path"] == "/metrics"


def test_versions_are_those_that_are_locked(manifests: list[Manifest]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert cluster_of(ray_of(manifests))["rayVersion"] == version("ray")
    for _, template in templates(manifests):
        for container in template["spec"]["containers"]:
            name, _, tag = container["image"].rpartition(":")
            assert re.search(r"\d+\.\d+", tag), container["image"]
            if name == "quire":
                assert tag in (f"{project}-cpu", f"{project}-cuda")


# What a plan says


def test_pods_add_up_to_the_plan(sets: dict[str, list[Manifest]]) -> None:
    plan = planned()
    assert plan.serving and plan.ingest
    for name, gpus in (("emitted", plan.serving.gpus), ("emitted/ingest", plan.ingest.gpus)):
        groups = groups_of(ray_of(sets[name]))
        found = {}
        for group in groups.values():
            container = group["template"]["spec"]["containers"][0]["resources"]
            assert container["limits"].items() <= {**container["requests"]}.items()
            if "nvidia.com/gpu" not in container["limits"]:
                assert "nodeSelector" not in group["template"]["spec"]
                continue
            (kind,) = group["template"]["spec"]["nodeSelector"].values()
            assert group["labels"] == group["template"]["spec"]["nodeSelector"]
            found[kind] = group["maxReplicas"] * int(container["limits"]["nvidia.com/gpu"])
        assert found == gpus
        assert len(groups) == len(gpus) + 1


@pytest.mark.parametrize("name", ["mixed", "plain"])
def test_pods_that_are_always_there_hold_the_service_and_an_upload(
    name: str, sets: dict[str, list[Manifest]]
) -> None:
    planned = plan_of(name).serving
    assert planned
    groups = groups_of(ray_of(sets[name]))
    settings = load_settings(**_args(ray_of(sets[name])))
    assert settings.reranker_replicas.gpus is not None, "by default a whole GPU"
    for kind, count in planned.gpus.items():
        group = groups[f"gpu-{kind}".lower()]
        gpus = int(resources(group)["nvidia.com/gpu"])
        taken = sum(each.count * each.gpu_share for each in planned.replicas if each.gpu == kind)
        assert taken <= group["minReplicas"] * gpus + 1e-6
        assert group["maxReplicas"] * gpus == count
    if len(planned.gpus) > 1:
        kinds = {settings.embedder_replicas.gpu_kind, settings.reranker_replicas.gpu_kind}
        assert kinds == set(planned.gpus)


def _args(manifest: Manifest) -> dict[str, Any]:
    config = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    args: dict[str, Any] = config["applications"][0]["args"]
    return args


def test_an_ingest_has_the_cpus_and_memory_to_render(sets: dict[str, list[Manifest]]) -> None:
    plan = planned()
    assert plan.ingest
    group = groups_of(ray_of(sets["emitted/ingest"]))["cpu"]
    pods, cpus = group["replicas"], int(resources(group)["cpu"])
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    assert plan.ingest.render_cpus + 2 <= pods * cpus <= plan.ingest.render_cpus + 2 * cpus
    limit = Settings.model_fields["render_memory_bytes"].default
    assert gib(resources(group)["memory"]) * GIB * 0.7 >= cpus * limit  # 0.3: the object store
    head = cluster_of(ray_of(sets["emitted/ingest"]))["headGroupSpec"]["template"]["spec"]
    variables = environment(sets["emitted/ingest"], head["containers"][0])
    assert variables["QUIRE_RENDER_WORKERS"] == "40" and variables["QUIRE_WORKERS"] == "4"
    assert variables["QUIRE_GPUS_PER_WORKER"] == "0.5"


def test_a_service_has_the_cpus_and_memory_for_its_replicas(
    sets: dict[str, list[Manifest]],
) -> None:
    plan = planned()
    assert plan.serving
    groups = groups_of(ray_of(sets["emitted"]))
    gpu, cpu = groups["gpu-l4"], groups["cpu"]
    settings = Settings(**plan.settings)
    on_gpus = sum(each.count * 2 for each in plan.serving.replicas)
    assert gpu["maxReplicas"] * int(resources(gpu)["cpu"]) >= on_gpus
    left = reserved_cpus(settings) - 2 * on_gpus
    assert cpu["maxReplicas"] * int(resources(cpu)["cpu"]) >= left > 0
    # A pod may hold two embedders or one reranker: weights, and a process with CUDA each.
    assert gib(resources(gpu)["memory"]) * 0.7 >= 2 * (5 + 4)
    assert gpu["minReplicas"] == 1 and cpu["minReplicas"] >= 1
    budget = only(sets["emitted"], "PodDisruptionBudget", "quire-workers")
    assert budget["spec"]["minAvailable"] < gpu["minReplicas"] + cpu["minReplicas"]


def test_a_replica_of_two_gpus_gets_a_pod_of_two() -> None:
    plan = planned()
    assert plan.serving
    wide = replicas("embedder", "H100", 2, 2.0)
    serving = replace(plan.serving, replicas=(wide,), gpus={"H100": 4})
    _, pods = service_pods(plan, serving)
    assert (pods.gpus, pods.most, pods.name) == (2, 2, "gpu-h100")
    with pytest.raises(InvalidInput, match="3 H100"):
        service_pods(plan, replace(serving, gpus={"H100": 3}))
    strange = replicas("generator", "H100", 1, 1.0)
    with pytest.raises(InvalidInput, match="generator"):
        service_pods(plan, replace(serving, replicas=(strange,), gpus={"H100": 1}))
    with pytest.raises(InvalidInput, match="without replicas"):
        service_pods(plan, replace(serving, gpus={"T4": 1}))


def test_a_plan_without_gpus_has_no_group_for_them(tmp_path: Path) -> None:
    plan = planned()
    assert plan.serving and plan.ingest
    worker = replicas("embedder", "", 3, 0.0)
    ingest = replace(plan.ingest, workers=(worker,), gpus={})
    (pods,) = ingest_pods(plan, ingest)
    assert pods.least * pods.cpus >= plan.ingest.render_cpus + worker.count
    write_manifests(replace(plan, ingest=ingest, serving=None), tmp_path / "out")
    manifests = build(tmp_path / "out" / "ingest")
    assert list(groups_of(ray_of(manifests))) == ["cpu"]
    image = cluster_of(ray_of(manifests))["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert image["image"].endswith("-cpu")
    everything = build(tmp_path / "out")  # nobody searches: Milvus and volumes are all
    assert not of_kind(everything, "RayService") and of_kind(everything, "Milvus")


def test_volumes_and_milvus_have_the_size_of_what_is_stored(
    sets: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    plan = planned()

    def stored(manifests: list[Manifest]) -> tuple[int, Manifest]:
        claim = only(manifests, "PersistentVolumeClaim", "quire-shared")["spec"]
        assert claim["accessModes"] == ["ReadWriteMany"]
        size = gib(claim["resources"]["requests"]["storage"])
        milvus: Manifest = only(manifests, "Milvus")["spec"]
        disk = milvus["dependencies"]["storage"]["inCluster"]["values"]["persistence"]["size"]
        assert gib(disk) * GIB > plan.storage.milvus_disk_bytes
        return size, milvus

    size, milvus = stored(sets["emitted"])
    assert size * GIB > plan.storage.page_files_bytes
    assert milvus["mode"] == "standalone"
    assert gib(milvus["components"]["resources"]["limits"]["memory"]) == 20
    large = replace(plan.storage, milvus_memory_bytes=600 * GIB)
    write_manifests(replace(plan, storage=large), tmp_path / "out")
    _, milvus = stored(build(tmp_path / "out"))
    assert milvus["mode"] == "cluster"
    node = milvus["components"]["queryNode"]
    assert node["replicas"] * gib(node["resources"]["limits"]["memory"]) >= 600
    # The base's own password and keys stay.
    assert milvus["config"]["common"]["security"]["authorizationEnabled"] is True
    assert milvus["dependencies"]["storage"]["inCluster"]["values"]["existingSecret"]


# Safe


def test_pods_may_do_as_little_as_they_can(manifests: list[Manifest]) -> None:
    for owner, template in templates(manifests):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, owner
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), owner
        scales = owner == "RayService head" and cluster_of(ray_of(manifests)).get(
            "enableInTreeAutoscaling", False
        )
        assert spec["automountServiceAccountToken"] is bool(scales), owner
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert container["livenessProbe"], owner
            assert all("hostPath" not in volume for volume in spec.get("volumes", []))
    if options := cluster_of(ray_of(manifests)).get("autoscalerOptions"):
        assert options["securityContext"]["readOnlyRootFilesystem"] is True


def test_nobody_comes_in_but_by_the_rules(manifests: list[Manifest]) -> None:
    if not of_kind(manifests, "RayService"):
        return
    policies = {
        each["metadata"]["name"]: each["spec"] for each in of_kind(manifests, "NetworkPolicy")
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    opened: dict[str, list[int]] = {}
    for rule in policies["ray"]["ingress"]:
        (source,) = rule["from"]
        assert source, "from everywhere"
        opened[json.dumps(source)] = [each["port"] for each in rule.get("ports", [])]
    outside = {source: ports for source, ports in opened.items() if "namespaceSelector" in source}
    assert sorted(map(tuple, outside.values())) == [(8000,), (8265, 8000)]
    assert all("kuberay-operator" in source for source, ports in outside.items() if 8265 in ports)
    for _, template in templates(manifests):
        assert template["metadata"]["labels"]["quire.dev/part"] in ("ray", "redis")
    for each in manifests:  # nothing is offered outside of the cluster
        assert each["kind"] != "Ingress"
        assert "LoadBalancer" not in str(each) and "NodePort" not in str(each)
    assert cluster_of(ray_of(manifests))["authOptions"] == {"mode": "token"}


def test_budgets_are_about_pods_that_are_there(sets: dict[str, list[Manifest]]) -> None:
    roles = {
        template["metadata"]["labels"].get("quire.dev/role")
        for name in EMITTED
        for _, template in templates(sets[name])
    }
    budgets = of_kind(sets["emitted"], "PodDisruptionBudget")
    assert {each["spec"]["selector"]["matchLabels"]["quire.dev/role"] for each in budgets} <= roles
    for each in budgets:
        # Kubernetes knows no other form for pods without a Deployment.
        assert (
            isinstance(each["spec"]["minAvailable"], int) and "maxUnavailable" not in each["spec"]
        )


def test_there_is_no_secret_but_those_that_a_person_makes(
    sets: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    shutil.copytree(K8S / "secrets", tmp_path / "secrets")
    assert "store-token" in run_kustomize(tmp_path / "secrets").stderr
    for name in SECRETS:
        (tmp_path / "secrets" / name).write_text(f"secret {name}")
    made = build(tmp_path / "secrets")
    assert not any(problems(each) for each in made)
    keys = {(each["metadata"]["name"], key) for each in made for key in each["data"]}
    for manifests in sets.values():
        assert not of_kind(manifests, "Secret")
        named = re.findall(
            r"'secretKeyRef': {'key': '([\w-]+)', 'name': '([\w-]+)'", str(manifests)
        )
        assert {(name, key) for key, name in named if name not in OTHER_SECRETS} <= keys
        assert not re.search(r"minioadmin|'password': '", str(manifests))
    store = only(sets["emitted"], "Milvus")["spec"]
    (password,) = store["components"]["env"]
    assert password["name"] == "COMMON_SECURITY_DEFAULTROOTPASSWORD" and "value" not in password
    values = store["dependencies"]["storage"]["inCluster"]["values"]
    assert (values["existingSecret"], "accesskey") in keys


# Variants


@pytest.fixture
def over_emitted(tmp_path: Path) -> Any:
    """Builds a kustomization of a user's own above an emitted set."""
    write_manifests(planned(), tmp_path / "out")

    def build_with(**own: Any) -> list[Manifest]:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "kustomization.yaml").write_text(
            yaml.safe_dump({"kind": "Kustomization", "namespace": "quire", **own})
        )
        return build(tmp_path / "mine")

    return build_with


def test_a_new_cluster_may_take_over_step_by_step(over_emitted: Any) -> None:
    manifests = over_emitted(
        resources=["../out"], components=["../out/components/incremental-upgrade"]
    )
    service = only(manifests, "RayService")
    assert not problems(service)
    strategy = service["spec"]["upgradeStrategy"]
    assert strategy["type"] == "NewClusterWithIncrementalUpgrade"
    options = strategy["clusterUpgradeOptions"]
    assert options["stepSizePercent"] <= options["maxSurgePercent"]
    assert cluster_of(service)["enableInTreeAutoscaling"]  # KubeRay asks for it


@pytest.mark.parametrize("folder", ["../out", "../out/ingest"])
def test_files_may_lie_in_s3(over_emitted: Any, folder: str) -> None:
    bucket = {"QUIRE_UPLOADS": "s3://ours/uploads", "QUIRE_PAGE_IMAGES": "s3://ours/pages"}
    literals = [f"{name}={value}" for name, value in bucket.items()]
    manifests = over_emitted(
        resources=[folder],
        components=["../out/components/s3"],
        configMapGenerator=[{"name": "quire-settings", "behavior": "merge", "literals": literals}],
    )
    keys = {"secretRef": {"name": "quire-s3", "optional": True}}
    for owner, template in templates([ray_of(manifests)]):
        container = template["spec"]["containers"][0]
        assert bucket.items() <= environment(manifests, container).items(), owner
        assert keys in container["envFrom"], owner


# The folder


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_writing_again_changes_nothing_and_keeps_what_is_not_ours(tmp_path: Path) -> None:
    files = write_manifests(planned(), tmp_path / "out")
    assert all(file.is_file() for file in files)
    (tmp_path / "out" / "secrets" / "store-token").write_text("mine")
    before = snapshot(tmp_path / "out")
    assert set(before) >= {str(file.relative_to(tmp_path / "out")) for file in files}
    write_manifests(planned(), tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


def test_what_a_new_plan_does_not_need_goes(tmp_path: Path) -> None:
    write_manifests(planned(), tmp_path / "out")
    write_manifests(replace(planned(), ingest=None), tmp_path / "out")
    assert not (tmp_path / "out" / "ingest" / "kustomization.yaml").exists()
    assert "ingest" not in json.loads((tmp_path / "out" / LEDGER).read_text())


@pytest.mark.parametrize(
    "name", ["serve.yaml", "base/rayservice.yaml", "ingest/kustomization.yaml"]
)
def test_a_file_that_was_changed_stays(tmp_path: Path, name: str) -> None:
    write_manifests(planned(), tmp_path)
    (tmp_path / name).write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(InvalidInput, match=re.escape(name)):
        write_manifests(replace(planned(), ingest=None), tmp_path)
    assert snapshot(tmp_path) == before


def test_a_folder_of_others_stays(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("mine")
    with pytest.raises(InvalidInput, match="not from here"):
        write_manifests(planned(), tmp_path)
    assert snapshot(tmp_path) == {"kustomization.yaml": b"mine"}
    with pytest.raises(InvalidInput, match="is a file"):
        write_manifests(planned(), tmp_path / "kustomization.yaml")


def test_an_interrupted_run_can_be_run_again(tmp_path: Path) -> None:
    write_manifests(planned(), tmp_path)
    whole = snapshot(tmp_path)
    (tmp_path / LEDGER).unlink()
    (tmp_path / "serve.yaml").unlink()
    write_manifests(planned(), tmp_path)
    assert snapshot(tmp_path) == whole


def test_a_ledger_does_not_lead_outside(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LEDGER).write_text(json.dumps({"../kept": "0"}))
    with pytest.raises(InvalidInput, match="outside"):
        write_manifests(planned(), tmp_path / "out")


def test_an_image_has_a_tag_or_a_digest(tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    for image in (f"registry:5000/quire@{digest}", "registry:5000/team/quire:1.2"):
        write_manifests(planned(), tmp_path, image=image)
        text = (tmp_path / "settings" / "kustomization.yaml").read_text()
        (found,) = yaml.safe_load(text)["images"]
        tail = f"@{found['digest']}" if "digest" in found else f":{found['newTag']}"
        assert found["newName"] + tail == image
    with pytest.raises(InvalidInput, match="neither a tag"):
        write_manifests(planned(), tmp_path, image="registry:5000/quire")


def test_a_plan_of_unknown_settings_is_refused(tmp_path: Path) -> None:
    plan = replace(planned(), settings={"modle": "x"})
    with pytest.raises(InvalidInput, match="modle"):
        write_manifests(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# The image


def stages() -> dict[str, list[tuple[str, str]]]:
    """Stages of the Dockerfile by name: the base first, then instructions."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    found: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = found[name] = [("FROM", base)]
        elif found and word and word != "#" and word.isupper():
            current.append((word, rest.strip()))
    return found


def whole(name: str) -> list[tuple[str, str]]:
    """A stage with those that it stands on."""
    found = stages()
    base = found[name][0][1]
    return [*(whole(base) if base in found else []), *found[name]]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_image_runs_as_nobody_and_is_asked_for_its_health(target: str) -> None:
    instructions = whole(target)
    assert [rest for word, rest in instructions if word == "USER"][-1] == "1000:1000"
    (health,) = [rest for word, rest in instructions if word == "HEALTHCHECK"]
    assert "/healthz" in health and "wget" in health
    (volumes,) = [json.loads(rest) for word, rest in instructions if word == "VOLUME"]
    environment = " ".join(rest for word, rest in instructions if word == "ENV")
    assert re.search(r"HF_HOME=(\S+)", environment)[1] in volumes  # type: ignore[index]
    (command,) = [json.loads(rest) for word, rest in instructions if word == "CMD"]
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    with commands[command[1]].make_context(command[1], command[2:]) as context:
        assert context.params["host"] == "0.0.0.0"
    packages = " ".join(rest for word, rest in instructions if word == "RUN")
    for needed in ("wget", "tesseract-ocr-jpn", "tesseract-ocr-kor", "libgomp1"):
        assert needed in packages  # wget: KubeRay's probe of workers
    assert [rest for word, rest in instructions if word == "COPY"] == [
        f"--from=build-{target} /opt/quire /opt/quire"
    ]


def test_the_image_is_made_of_what_is_locked() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=3\.11\.\d+-slim-bookworm$", text, re.MULTILINE)
    makefile = re.search(r"^UV_VERSION = (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert makefile and f"ARG UV={makefile[1]}\n" in text
    for name, base in ((name, steps[0][1]) for name, steps in stages().items()):
        assert base in stages() or base == "python:${PYTHON}", name
    for name in ("build-cuda", "build-cpu"):
        installs = " ".join(rest for word, rest in stages()[name] if word == "RUN")
        assert "uv sync" not in installs.replace("uv sync --frozen", "")
        assert "uv export" not in installs.replace("uv export --frozen", "")
    assert "--require-hashes" in text
    for source in ("pyproject.toml", "uv.lock"):
        assert (ROOT / source).exists() and source in text


def test_only_what_the_wheel_needs_goes_into_the_image() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    for name in kept:
        assert (ROOT / name).exists(), name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    assert {name.partition("/")[0] for name in included} <= kept
    files = [file for part in COPIED for file in (K8S / part).rglob("*") if file.is_file()]
    for path in (str(file.relative_to(ROOT)) for file in files):  # what the emitter copies
        assert any(fnmatch(path, pattern.replace("**/", "*")) for pattern in included), path
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    assert needed | {"pyproject.toml", "uv.lock"} <= kept
    assert "k8s/secrets/*" in lines


def test_the_handbook_names_what_is_there() -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    for path in re.findall(r"(?<![\w/])k8s/(?:overlays|components|base|grafana)[\w/.-]*", text):
        assert (ROOT / path.rstrip("./")).exists(), path
    for name in SECRETS:
        assert name in text
    for name in OTHER_SECRETS:
        assert name in text
    for setting in re.findall(r"QUIRE_([A-Z_]+)", text):
        assert setting.lower() in Settings.model_fields, setting
