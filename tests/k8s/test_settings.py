"""Settings and commands in the manifests are those of the code."""

import re
import shlex
from importlib import import_module
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from ray.scripts.scripts import cli as ray_cli
from typer.main import get_command

from cluster.settings import Settings, load_settings
from quire import app
from serve.app import APP, emit_config
from tests.support.kubernetes import Manifest, cluster_of, environment, of_kind, only, templates
from tests.support.manifests import EMITTED, HAND_KEPT, groups_of, ray_of


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
