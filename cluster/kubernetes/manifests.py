"""A plan → a folder of Kubernetes manifests: the hand-kept base (k8s/) and patches upon it.

The folder is whole in itself. What is written there may be overwritten; nobody else's file, and
no file that was changed since, ever is.
"""

import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from cluster.deployments import DEPLOYMENTS
from cluster.errors import InvalidInput
from cluster.kubernetes.pods import Pods, ingest_pods, least_pods, service_pods
from cluster.plan import IngestPlan, Plan, Storage
from cluster.settings import GIB, Settings

BASE = Path(__file__).resolve().parents[2] / "k8s"
COPIED = ("base", "components", "grafana", "secrets")
IMAGE = f"quire:{version('quire')}"
HEADER = (
    "# Written by `quire plan --emit`, which may overwrite it. Put changes of your own into a\n"
    "# kustomization above this one (docs/kubernetes.md).\n"
)
SERVICE = "/spec/rayClusterConfig"
JOB = "/spec/rayClusterSpec"
# Settings of one job; the service's uploads keep their own.
INGEST_SETTINGS = (
    "batch_tokens",
    "workers",
    "render_workers",
    "gpus_per_worker",
    "gpu_memory_fraction",
    "gpu_kind",
)
DELETE = {"$patch": "delete", "apiVersion": "any", "kind": "Any", "metadata": {"name": "any"}}
STANDALONE_BYTES = 64 * GIB  # of Milvus in one process; beyond it is a cluster
MIN_VOLUME_BYTES = 20 * GIB
VOLUME_SIZE = "/spec/resources/requests/storage"
ROOM = 1.5  # of a volume, for what a plan does not know: uploads, growth, compaction


def manifests(plan: Plan, image: str) -> dict[str, str]:
    """Write the manifests as texts by file name. Raises InvalidInput."""
    if unknown := plan.settings.keys() - Settings.model_fields.keys():
        raise InvalidInput(f"the plan sets what is no setting: {', '.join(sorted(unknown))}")
    files = _copied()
    files["plan.yaml"] = plan.to_yaml()
    files["settings/settings.env"] = _environment(_shared(plan))
    files["settings/kustomization.yaml"] = _yaml(_settings_component(image))
    files |= _service_files(plan)
    files["milvus.yaml"] = _yaml(_milvus(plan.storage))
    if plan.ingest:
        files["ingest/kustomization.yaml"] = _yaml(_ingest_kustomization(plan, plan.ingest))
    return files


def _service_files(plan: Plan) -> dict[str, str]:
    patches: list[Any] = [{"path": "milvus.yaml"}, *_volumes(plan)]
    components = ["milvus", "redis", "monitoring"]
    files = {}
    if plan.serving:
        groups = service_pods(plan, plan.serving)
        files["serve.yaml"] = _yaml(_serve(plan))
        files["workers.yaml"] = _yaml(_group_patch(f"{SERVICE}/workerGroupSpecs", groups))
        patches += [
            {"path": "serve.yaml"},
            {"path": "workers.yaml", "target": {"kind": "RayService", "name": "quire"}},
            _budget(groups),
        ]
    else:  # nobody searches: what an ingest needs is all
        components = ["milvus"]
        patches.append(_patch("RayService", "quire", DELETE))
    files["kustomization.yaml"] = _yaml(
        {
            **_kustomization(),
            "resources": ["base", "grafana"] if plan.serving else ["base"],
            "components": [*(f"components/{name}" for name in components), "settings"],
            "patches": patches,
        }
    )
    return files


def _ingest_kustomization(plan: Plan, ingest: IngestPlan) -> dict[str, Any]:
    own = {name: plan.settings[name] for name in INGEST_SETTINGS if name in plan.settings}
    environment = f"{JOB}/headGroupSpec/template/spec/containers/0/env/-"
    patch = [
        *_group_patch(f"{JOB}/workerGroupSpecs", ingest_pods(plan, ingest)),
        *(
            {"op": "add", "path": environment, "value": {"name": name, "value": value}}
            for name, value in _variables(own).items()
        ),
    ]
    return {
        **_kustomization(),
        "resources": ["../base"],
        "components": ["../components/milvus", "../settings", "../components/ingest"],
        "patches": [_patch("RayJob", "quire-ingest", patch)],
    }


def _kustomization() -> dict[str, Any]:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "quire",
    }


def _settings_component(image: str) -> dict[str, Any]:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "images": [_image(image)],
        "configMapGenerator": [
            {"name": "quire-settings", "behavior": "merge", "envs": ["settings.env"]}
        ],
    }


def _image(image: str) -> dict[str, str]:
    """The base's image `quire` as another one. Raises InvalidInput without a tag or a digest."""
    name, at, digest = image.partition("@")
    if at:
        return {"name": "quire", "newName": name, "digest": digest}
    name, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:  # a port of the registry
        raise InvalidInput(f"the image {image} has neither a tag nor a digest: name one")
    return {"name": "quire", "newName": name, "newTag": tag}


def _is_of_serving(name: str) -> bool:
    scaled = {"router", *(spec.settings_field for spec in DEPLOYMENTS)}
    return name in scaled or name.startswith("rerank")


def _shared(plan: Plan) -> dict[str, Any]:
    """Settings of the service and the ingest: they must see the same vectors and files."""
    return {
        name: value
        for name, value in plan.settings.items()
        if name not in INGEST_SETTINGS and not _is_of_serving(name)
    }


def _variables(settings: Mapping[str, Any]) -> dict[str, str]:
    return {f"QUIRE_{name.upper()}": str(value) for name, value in settings.items()}


def _environment(settings: Mapping[str, Any]) -> str:
    lines = [f"{name}={value}\n" for name, value in _variables(settings).items()]
    return HEADER + "".join(lines)


def _serve(plan: Plan) -> dict[str, Any]:
    """The configuration of Ray Serve that `quire serve --emit-config` would write, as a patch."""
    base = yaml.safe_load((BASE / "base" / "rayservice.yaml").read_text())
    config = yaml.safe_load(base["spec"]["serveConfigV2"])
    own = {name: value for name, value in plan.settings.items() if _is_of_serving(name)}
    config["applications"][0]["args"] |= own
    return {
        "apiVersion": base["apiVersion"],
        "kind": base["kind"],
        "metadata": {"name": base["metadata"]["name"]},
        "spec": {"serveConfigV2": yaml.safe_dump(config, sort_keys=False)},
    }


def _group_patch(path: str, groups: list[Pods]) -> list[dict[str, Any]]:
    """Turn the base's two worker groups, one without a GPU and one with, into those of the plan."""
    cpu, *gpus = groups
    patch = _sizes(f"{path}/0", cpu)
    for index, pods in enumerate(gpus, start=2):
        group = f"{path}/{index}"
        patch.append({"op": "copy", "from": f"{path}/1", "path": group})
        patch += [
            _replace(f"{group}/groupName", pods.name),
            _replace(f"{group}/labels/quire.dev~1gpu", pods.gpu),
            _replace(f"{group}/template/spec/nodeSelector/quire.dev~1gpu", pods.gpu),
            *_sizes(group, pods),
        ]
    return [*patch, {"op": "remove", "path": f"{path}/1"}]


def _sizes(group: str, pods: Pods) -> list[dict[str, Any]]:
    limits = {"memory": _gib(pods.memory_bytes)}
    if pods.gpus:
        limits["nvidia.com/gpu"] = str(pods.gpus)
    resources = {"requests": {"cpu": str(pods.cpus), **limits}, "limits": limits}
    return [
        _replace(f"{group}/replicas", pods.least),
        _replace(f"{group}/minReplicas", pods.least),
        _replace(f"{group}/maxReplicas", pods.most),
        _replace(f"{group}/template/spec/containers/0/resources", resources),
    ]


def _patch(kind: str, name: str, patch: Any) -> dict[str, Any]:
    """Return a patch that stands in the kustomization itself."""
    return {"target": {"kind": kind, "name": name}, "patch": _yaml(patch, header="")}


def _replace(path: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


def _budget(groups: list[Pods]) -> dict[str, Any]:
    """Patch the disruption budget: one pod at a time may go, of the fewest that there are."""
    patch = [_replace("/spec/minAvailable", max(1, least_pods(groups) - 1))]
    return _patch("PodDisruptionBudget", "quire-workers", patch)


def _milvus(storage: Storage) -> dict[str, Any]:
    """Size Milvus: one process while its memory fits into a machine, else query nodes."""
    nodes = math.ceil(storage.milvus_memory_bytes / STANDALONE_BYTES)
    memory = _gib(max(8 * GIB, storage.milvus_memory_bytes / max(1, nodes)))
    resources = {"requests": {"cpu": "4", "memory": memory}, "limits": {"memory": memory}}
    values: dict[str, Any] = {"persistence": {"size": _volume(storage.milvus_disk_bytes)}}
    if nodes <= 1:
        mode = "standalone"
        components: dict[str, Any] = {"resources": resources}
    else:
        mode = "cluster"
        values["mode"] = "distributed"
        components = {
            "proxy": {"replicas": 2},
            "mixCoord": {"replicas": 1},
            "dataNode": {"replicas": 2},
            "streamingNode": {"replicas": 1},
            "queryNode": {"replicas": nodes, "resources": resources},
        }
    return {
        "apiVersion": "milvus.io/v1beta1",
        "kind": "Milvus",
        "metadata": {"name": "quire"},
        "spec": {
            "mode": mode,
            "components": components,
            "dependencies": {"storage": {"inCluster": {"values": values}}},
        },
    }


def _volumes(plan: Plan) -> list[dict[str, Any]]:
    weights = {each.model: each.memory.weights for each in plan.replicas}
    sizes = {
        "quire-shared": plan.storage.page_files_bytes,
        "quire-models": 2 * sum(weights.values()),  # a checkpoint is wider than what was quantised
    }
    return [
        _patch("PersistentVolumeClaim", name, [_replace(VOLUME_SIZE, _volume(size))])
        for name, size in sizes.items()
    ]


def _volume(size_bytes: float) -> str:
    return _gib(max(MIN_VOLUME_BYTES, size_bytes * ROOM))


def _gib(size_bytes: float) -> str:
    return f"{math.ceil(size_bytes / GIB)}Gi"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks; nothing twice by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _block)


def _yaml(document: Any, header: str = HEADER) -> str:
    return header + yaml.dump(document, Dumper=_Dumper, sort_keys=False)


def _copied() -> dict[str, str]:
    """Return the hand-kept files, as they are."""
    files = {}
    for part in COPIED:
        for file in sorted((BASE / part).rglob("*")):
            if file.suffix in (".yaml", ".env", ".json") or file.name == ".gitignore":
                files[str(file.relative_to(BASE))] = file.read_text()
    return files
