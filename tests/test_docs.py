"""What the documents name is there: metrics, commands, routes, settings, files."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.util import metrics
from typer.main import get_command
from typer.testing import CliRunner

from cluster.deployments import DEPLOYMENTS
from cluster.metrics import service_metrics
from cluster.settings import Settings
from docs.generate import stale
from quire import ENTRIES, app
from serve.web.application import build_http

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "docs" / "grafana" / "quire.json"
GENERATED = ("cli.md", "settings.md", "api.md")
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *(file for file in sorted((ROOT / "docs").glob("*.md")) if file.name not in GENERATED),
)
SERVING = ROOT / "docs" / "serving.md"
SCALED = ("router", *(spec.settings_field for spec in DEPLOYMENTS))
# Read at a running service; ours are those of Metrics.
RAY_METRICS = {
    "ray_serve_deployment_replica_healthy",
    "ray_serve_autoscaling_target_replicas",
    "ray_serve_replica_processing_queries",
    "ray_serve_deployment_queued_queries",
}


def series() -> dict[str, set[str]]:
    """The series that /metrics has, and the labels of each."""
    found = {}
    for metric in vars(service_metrics()).values():
        name, labels = metric.info["name"], set(metric.info["tag_keys"])
        if isinstance(metric, metrics.Histogram):
            found[f"{name}_bucket"] = {*labels, "le"}
            found[f"{name}_sum"] = found[f"{name}_count"] = labels
        else:
            found[name] = labels
    return found


def expressions() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def code_of(file: Path) -> list[str]:
    """What stands in blocks of code, without languages, and between backticks."""
    text = file.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [*blocks, *re.findall(r"`([^`]+)`", rest)]


def test_the_dashboard_can_be_imported() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert board["title"] and board["uid"] and board["schemaVersion"] >= 39
    source = next(each for each in board["templating"]["list"] if each["name"] == "datasource")
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert panel["title"] and panel["description"] and panel["targets"]
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}", panel["title"]
    taken = [_cells(panel["gridPos"]) for panel in board["panels"]]
    assert sum(map(len, taken)) == len(set().union(*taken)), "panels lie upon each other"


def _cells(place: dict[str, int]) -> set[tuple[int, int]]:
    assert place["x"] + place["w"] <= 24
    columns = range(place["x"], place["x"] + place["w"])
    rows = range(place["y"], place["y"] + place["h"])
    return {(column, row) for column in columns for row in rows}


def test_the_dashboard_asks_for_metrics_that_are_there() -> None:
    known = series()
    asked = set()
    for expression in expressions():
        names = set(re.findall(r"\b(?:ray|quire)_\w+", expression))
        assert names, expression
        asked |= names
        labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", expression))
        for group in re.findall(r"by \(([^)]*)\)", expression):
            labels |= {label.strip() for label in group.split(",")}
        for name in names - RAY_METRICS:
            assert name in known, f"{name}: {expression}"
            assert labels <= known[name], f"{labels - known[name]}: {expression}"
    shown = {name for name in known if name in asked}
    for metric in vars(service_metrics()).values():
        assert any(name.startswith(metric.info["name"]) for name in shown), metric.info["name"]


def test_legends_are_labels_that_the_expression_keeps() -> None:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            kept: set[str] = set()
            for group in re.findall(r"by \(([^)]*)\)", target["expr"]):
                kept |= {label.strip() for label in group.split(",")}
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, target


def test_the_table_of_metrics_is_whole() -> None:
    listed = set(re.findall(r"^\| `(quire_\w+)`", SERVING.read_text(), re.MULTILINE))
    assert listed == {metric.info["name"] for metric in vars(service_metrics()).values()}


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_commands_and_their_options_are_there(file: Path) -> None:
    root: Any = get_command(app)
    for code in code_of(file):
        joined = re.sub(r"\\\n\s*", " ", code)
        for words in re.findall(r"^(?:\.venv/bin/)?quire ([a-z].*)$", joined, re.MULTILINE):
            name, *rest = words.partition("#")[0].split()
            command = root.commands[name]
            if ENTRIES[name].is_group and rest:
                command = command.commands[rest.pop(0).partition("|")[0]]
            known = {flag for parameter in command.params for flag in parameter.opts}
            flags = {word.partition("=")[0] for word in rest if word.startswith("-")}
            assert flags <= known, f"{file.name}: quire {words}"


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_plans_in_documents_are_plans(file: Path) -> None:
    for code in code_of(file):
        for words in re.findall(r"^(?:\.venv/bin/)?quire (plan .*)$", code, re.MULTILINE):
            asked = words.partition("#")[0].split()
            for flag in ("--chart", "--emit", "--out", "--image"):  # those write
                if flag in asked:
                    place = asked.index(flag)
                    del asked[place : place + 2]
            if "--workload" in asked or "…" in asked:
                continue
            done = CliRunner().invoke(app, asked)
            assert done.exit_code == 0, f"quire {words}: {done.output}"


def routes() -> set[tuple[str, str]]:
    paths = build_http().openapi()["paths"]
    return {(method.upper(), path) for path, known in paths.items() for method in known}


def test_the_table_of_routes_is_whole() -> None:
    listed = set(re.findall(r"`(GET|POST|PATCH|DELETE) (/[^`… ]*)`", SERVING.read_text()))
    outside = {("GET", "/"), ("GET", "/docs")}  # not in the OpenAPI document
    assert listed - outside == routes()


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_routes_that_are_named_are_there(file: Path) -> None:
    shapes = [re.sub(r"{\w+}", "[^/]+", path) for _, path in routes()]
    for path in re.findall(r"(?:localhost:\d+|(?<=[`\s]))(/v[12]/[\w./{}]+)", file.read_text()):
        named = path.rstrip(".")
        whole = any(re.fullmatch(shape, named) for shape in shapes)
        assert whole or any(shape.startswith(named + "/") for shape in shapes), path


def test_settings_that_are_named_are_there() -> None:
    text = SERVING.read_text()
    for name in re.findall(r"QUIRE_([A-Z_]+)", text):
        first, _, second = name.lower().partition("__")
        assert first in Settings.model_fields, name
        assert not second or second in type(getattr(Settings(), first)).model_fields, name
    for block in re.findall(r"^```yaml\n(router:.*?)^```", text, re.DOTALL | re.MULTILINE):
        Settings(**yaml.safe_load(block))


def test_the_table_of_scaling_has_every_field_and_its_default() -> None:
    rows = re.findall(
        r"^\| `(\w+)`(?: \(models\))? \| ([^|]*) \| ", SERVING.read_text(), re.MULTILINE
    )
    listed = dict(rows)
    fields: set[str] = set()
    for name in SCALED:
        scaling = getattr(Settings(), name)
        fields |= set(type(scaling).model_fields)
        for field, shown in listed.items():
            value = getattr(scaling, field, None)
            if isinstance(value, int | float):
                called = name.removesuffix("_replicas").replace("_", " ")
                part = re.search(rf"{called} ([\d.]+)", shown) or re.match(r"([\d.]+)", shown)
                assert part and float(part[1]) == value, f"{name}.{field}"
    assert fields <= set(listed)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
        if "://" not in target:
            assert (file.parent / target).exists(), target


def test_generated_pages_are_what_the_code_says() -> None:
    assert not list(stale()), "run `make docs`"


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_paths_that_are_named_are_there(file: Path) -> None:
    if file.name in ("CHANGELOG.md", "experiments.md"):  # they speak of former times too
        return
    rooms = "cluster|models|jobs|serve|recipes|benchmarks|tests|k8s|docs"
    for path in re.findall(rf"`((?:{rooms})/(?!mine)[\w./-]+)`", file.read_text()):
        assert (ROOT / path).exists(), f"{file.name}: {path}"
