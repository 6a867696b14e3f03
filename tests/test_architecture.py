"""The house stands: imports point one way, and each fence has one gate."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("cluster", "models", "jobs", "serve")  # each may import itself and those before it
FENCES = {
    "ray": ("cluster/runtime.py", "cluster/metrics.py", "jobs/", "serve/"),
    "pymilvus": ("cluster/store/",),
    "fastapi": ("serve/",),
    "transformers": ("models/",),
}
STDLIB_NAMES = {"types", "queue", "tokenize", "json", "logging", "random", "select", "token"}


def sources() -> list[Path]:
    rooms = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    return sorted([ROOT / "quire.py", *rooms])


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: write `from {file.parent.name}.x import y`"
            yield node.module or ""


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file: Path) -> None:
    room = file.relative_to(ROOT).parts[0]
    allowed = ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else ROOMS
    for module in imports(file):
        top = module.split(".")[0]
        assert top != "quire", f"{room} imports the command line"
        assert top not in ROOMS or top in allowed, f"{room} imports {module}"
        assert top not in ("tests", "benchmarks"), f"{room} imports {module}"


@pytest.mark.parametrize("library", FENCES)
def test_fences(library: str) -> None:
    for file in sources():
        if library in {module.split(".")[0] for module in imports(file)}:
            place = str(file.relative_to(ROOT))
            assert place.startswith(FENCES[library]), f"{place} imports {library}"


def test_only_settings_reads_the_environment() -> None:
    for file in sources():
        tree = ast.parse(file.read_text())
        found = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
        }
        if found & {"environ", "getenv", "putenv"}:
            assert file == ROOT / "cluster" / "settings.py", file


def test_no_room_is_empty_and_no_file_shadows_the_library() -> None:
    for room in ROOMS:
        if (ROOT / room).exists():
            assert len(list((ROOT / room).glob("*.py"))) > 1, room
    assert not {file.stem for file in sources()} & STDLIB_NAMES


def test_every_module_says_what_it_is() -> None:
    for file in sources():
        assert ast.get_docstring(ast.parse(file.read_text())), file


def test_nothing_unsafe_is_called() -> None:
    for file in sources():
        text = file.read_text()
        assert "trust_remote_code=True" not in text, file
        assert "import pickle" not in text, file
        assert "fetch_image" not in text, file


def test_the_readme_names_every_file() -> None:
    readme = (ROOT / "README.md").read_text()
    for file in sources():
        if file.name != "__init__.py":
            assert file.name in readme, f"README.md has no line for {file.relative_to(ROOT)}"
