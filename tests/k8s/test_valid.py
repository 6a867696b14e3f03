"""The manifests are valid and whole, and what they name is there."""

import json
import re
import tomllib
from importlib.metadata import version

import pytest

from cluster.settings import Settings
from tests.support.kubernetes import (
    Manifest,
    cluster_of,
    environment,
    of_kind,
    only,
    problems,
    templates,
)
from tests.support.manifests import EMITTED, OTHER_SECRETS, SECRETS, ray_of
from tests.support.paths import ROOT


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
