"""Emitted manifests that are taken over by hand."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kubernetes.folder import write_manifests
from tests.support.kubernetes import (
    Manifest,
    build,
    cluster_of,
    environment,
    only,
    problems,
    templates,
)
from tests.support.manifests import planned, ray_of


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
