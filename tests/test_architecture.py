"""The house stands: imports point one way, fences have their gates, packages say what they are."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("cluster", "models", "jobs", "serve")  # each may import itself and those before it
# Within a room: what a package, or a file at the room's root, may import beside itself. Files at
# the root of cluster and models that are not named may import each other.
FLOOR = {
    "cluster": (
        "core",
        "errors",
        "ids",
        "settings",
        "environment",
        "plan",
        "deployments",
        "hardware",
        "sources",
        "folders",
        "runtime",
        "metrics",
        "command_options",
    ),
    "models": ("registry", "options", "protocols", "inputs", "images"),
    "jobs": (
        "ray_data",
        "progress",
        "journal",
        "uploads",
        "report_file",
        "forget",
        "change",
    ),
    "serve": ("logs", "tracing"),
}
ARROWS = {
    "cluster": {
        "text": (),
        "pages": ("text",),
        "store": ("text",),
        "capacity": (),
        "kubernetes": ("capacity",),
    },
    "models": {
        "engine": (),
        "qwen3_vl": ("engine",),
        "evidence": (),
        "late_interaction": ("engine", "qwen3_vl", "evidence"),
        "ocr_quality": ("engine", "late_interaction"),
        "retrieval": ("qwen3_vl", "late_interaction", "evidence"),
        "command": (),
    },
    "jobs": {
        "rendering": (),
        "ingest": ("rendering",),
        "ocr_quality": ("rendering",),
        "capacity": (),
        "collections": (),
        "backup": ("collections",),
        "vector_files": ("rendering",),
        "hits": (),
        "evaluation": (),
        "demo": ("ingest", "ocr_quality", "hits"),
        "export_vectors": ("rendering",),
        "evidence_pictures": (),
        "service": (),
        "command": ("hits", "service", "evidence_pictures", "export_vectors"),
    },
    "serve": {
        "auth": (),
        "deployments": ("auth",),
        "router": ("auth", "deployments"),
        "web": ("auth", "deployments", "router"),
        "app": ("deployments", "router", "web"),
        "launch": ("auth", "app"),
        "command": ("launch", "app", "auth"),
    },
}
FENCES = {
    "ray": ("cluster/runtime.py", "cluster/metrics.py", "jobs/", "serve/"),
    "pymilvus": ("cluster/store/",),
    "fastapi": ("serve/",),
    "transformers": ("models/",),
    "colpali_engine": ("models/",),
}
STDLIB_NAMES = {"types", "queue", "tokenize", "json", "logging", "random", "select", "token"}


def sources() -> list[Path]:
    rooms = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    return sorted([ROOT / "quire.py", *rooms])


def packages() -> list[Path]:
    rooms = (*ROOMS, "recipes")
    return sorted(file.parent for room in rooms for file in (ROOT / room).rglob("__init__.py"))


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: write `from {file.parent.name}.x import y`"
            yield node.module or ""


def part_of(room: str, name: str) -> str:
    """The package of a module in a room, or the file at the room's root; "" for the room itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == room else ""


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file: Path) -> None:
    room = file.relative_to(ROOT).parts[0]
    allowed = ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else ROOMS
    for module in imports(file):
        top = module.split(".")[0]
        assert top != "quire", f"{room} imports the command line"
        assert top not in ROOMS or top in allowed, f"{room} imports {module}"
        assert top not in ("tests", "benchmarks", "recipes"), f"{room} imports {module}"


@pytest.mark.parametrize(
    "file",
    [file for file in sources() if file.name not in ("quire.py", "__init__.py")],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_packages_of_a_room_import_one_way(file: Path) -> None:
    path = file.relative_to(ROOT)
    room, own = path.parts[0], path.parts[1].removesuffix(".py")
    is_floor = own in FLOOR[room]
    assert is_floor or own in ARROWS[room], f"{path}: neither of the floor nor in ARROWS"
    allowed = {own, *FLOOR[room], *(() if is_floor else ARROWS[room][own])}
    for module in imports(file):
        target = part_of(room, module)
        assert not target or target in allowed, f"{path} imports {module}"


def test_the_arrows_are_of_packages_that_are_there() -> None:
    for room, arrows in ARROWS.items():
        for part in {*arrows, *FLOOR[room], *(name for names in arrows.values() for name in names)}:
            assert (ROOT / room / part).is_dir() or (ROOT / room / f"{part}.py").is_file(), part


@pytest.mark.parametrize("library", FENCES)
def test_fences(library: str) -> None:
    for file in sources():
        if library in {module.split(".")[0] for module in imports(file)}:
            place = str(file.relative_to(ROOT))
            assert place.startswith(FENCES[library]), f"{place} imports {library}"


def test_one_file_reads_the_environment() -> None:
    for file in sources():
        tree = ast.parse(file.read_text())
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
        }
        if used & {"environ", "getenv", "putenv"}:
            assert file == ROOT / "cluster" / "environment.py", file


def test_no_file_shadows_the_standard_library() -> None:
    assert not {file.stem for file in sources()} & STDLIB_NAMES


@pytest.mark.parametrize("package", packages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_package_is_one_sentence_that_the_map_has(package: Path) -> None:
    tree = ast.parse((package / "__init__.py").read_text())
    sentence = ast.get_docstring(tree)
    assert sentence and "\n" not in sentence and len(tree.body) == 1, f"{package}: one sentence"
    name = package.relative_to(ROOT)
    line = f"`{name}/` — {sentence}"
    assert line in (ROOT / "docs" / "architecture.md").read_text(), f"docs/architecture.md: {line}"


def test_no_package_is_smaller_than_three_files() -> None:
    for package in packages():
        files = [file for file in package.glob("*.py") if file.name != "__init__.py"]
        folders = [folder for folder in package.iterdir() if (folder / "__init__.py").exists()]
        assert len(files) + len(folders) >= 3 or package.name == "auth", package


def test_every_module_says_what_it_is() -> None:
    for file in sources():
        assert ast.get_docstring(ast.parse(file.read_text())), file


def test_nothing_unsafe_is_called() -> None:
    for file in sources():
        text = file.read_text()
        assert "trust_remote_code=True" not in text, file
        assert "import pickle" not in text, file
        assert "fetch_image" not in text, file
