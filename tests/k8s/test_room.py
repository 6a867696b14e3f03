"""Pods have the room that a plan gives them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.errors import InvalidInput
from cluster.kubernetes.folder import write_manifests
from cluster.kubernetes.pods import ingest_pods, service_pods
from cluster.settings import GIB, Settings, load_settings
from serve.app import reserved_cpus
from tests.support.kubernetes import Manifest, build, cluster_of, environment, gib, of_kind, only
from tests.support.manifests import groups_of, plan_of, planned, ray_of, replicas, resources


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
