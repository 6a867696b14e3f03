"""Every set of manifests, built once."""

import pytest

from cluster.kubernetes.folder import write_manifests
from tests.support.kubernetes import K8S, Manifest, build
from tests.support.manifests import EMITTED, HAND_KEPT, PLANNED, WORKLOADS, plan_of, planned


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Manifest]]:
    """Everything that is built, by its folder."""
    folder = tmp_path_factory.mktemp("k8s")
    write_manifests(planned(), folder / "emitted")
    for name in WORKLOADS:
        write_manifests(plan_of(name), folder / name)
    built = {name: build(K8S / name) for name in HAND_KEPT}
    return built | {name: build(folder / name) for name in (*EMITTED, *PLANNED, "alone")}


@pytest.fixture(params=(*HAND_KEPT, *EMITTED, *PLANNED))
def manifests(request: pytest.FixtureRequest, sets: dict[str, list[Manifest]]) -> list[Manifest]:
    return sets[request.param]
