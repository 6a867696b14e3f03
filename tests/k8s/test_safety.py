"""Pods may do little, nobody comes in, and secrets are a person's."""

import json
import re
import shutil
from pathlib import Path

from tests.support.kubernetes import (
    K8S,
    Manifest,
    build,
    cluster_of,
    of_kind,
    only,
    problems,
    run_kustomize,
    templates,
)
from tests.support.manifests import EMITTED, OTHER_SECRETS, SECRETS, ray_of


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
