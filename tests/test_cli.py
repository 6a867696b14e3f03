"""The command line as a newcomer meets it."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.command_line import parse_metadata
from cluster.errors import InvalidInput
from cluster.settings import Settings, load_settings
from quire import app

HEAVY = ("torch", "transformers", "ray", "pymilvus", "pymupdf", "numpy", "PIL")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, quire\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(quire.app, ['--help']).exit_code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["ingest", "search", "status", "documents", "forget", "models"])
def test_every_option_has_a_help_text(command: str) -> None:
    from typer.main import get_command

    group = get_command(app)
    for parameter in group.commands[command].params:  # type: ignore[attr-defined]
        assert getattr(parameter, "help", None) or parameter.name == "help", parameter.name


def test_models_lists_memory() -> None:
    shown = CliRunner().invoke(app, ["models"]).stdout
    for word in ("quire-tiny", "qwen3-vl-embedding-2b", "2127532032", "3.96"):
        assert word in shown


def test_flag_beats_environment_beats_file_beats_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings().top_k == 10
    (tmp_path / "quire.yaml").write_text("top_k: 3\nmode: dense\n")
    assert load_settings().top_k == 3
    monkeypatch.setenv("QUIRE_TOP_K", "5")
    assert load_settings().top_k == 5
    assert load_settings(top_k=7).top_k == 7
    assert load_settings().mode == "dense"


@pytest.mark.parametrize(
    "wrong", [{"top_k": 0}, {"mode": "magic"}, {"collection": "a b"}, {"chunk_overlap": 5000}]
)
def test_wrong_settings_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        load_settings(**wrong)


def test_unknown_settings_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quire.yaml").write_text("topk: 3\n")
    with pytest.raises(InvalidInput, match="topk"):
        load_settings()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_STORE_TOKEN", "hunter2")
    assert "hunter2" not in CliRunner().invoke(app, ["settings", "--json"]).stdout


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_metadata_values_are_typed() -> None:
    assert parse_metadata(["year=2026", "ok=true", "name=A=B", 'text="2026"']) == {
        "year": 2026,
        "ok": True,
        "name": "A=B",
        "text": '"2026"',
    }
    with pytest.raises(InvalidInput, match="KEY=VALUE"):
        parse_metadata(["nothing"])
