"""The image."""

import json
import re
import tomllib
from fnmatch import fnmatch
from typing import Any

import pytest
from typer.main import get_command

from cluster.kubernetes.manifests import COPIED
from quire import app
from tests.support.kubernetes import K8S
from tests.support.paths import ROOT


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
    patterns = project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    assert all(pattern.startswith("/") for pattern in patterns)  # or tests/serve would match too
    included = [pattern.removeprefix("/") for pattern in patterns]
    assert {name.partition("/")[0] for name in included} <= kept
    files = [file for part in COPIED for file in (K8S / part).rglob("*") if file.is_file()]
    for path in (str(file.relative_to(ROOT)) for file in files):  # what the emitter copies
        assert any(fnmatch(path, pattern.replace("**/", "*")) for pattern in included), path
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    assert needed | {"pyproject.toml", "uv.lock"} <= kept
    assert "k8s/secrets/*" in lines
