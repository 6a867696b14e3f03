"""The command line as a newcomer meets it."""

import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from cluster.command_options import parse_metadata, print_rows, shorten_path
from cluster.errors import InvalidInput
from cluster.settings import Settings, load_settings
from quire import COMMANDS, ENTRIES, app

HEAVY = ("torch", "transformers", "ray", "pymilvus", "pymupdf", "numpy", "PIL", "pydantic", "yaml")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, quire\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(quire.app, ['--help']).exit_code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ENTRIES)
def test_every_command_loads_and_says_what_its_line_in_the_list_says(name: str) -> None:
    root: Any = get_command(app)
    command = root.commands[name]
    if ENTRIES[name].is_group:
        for sub in command.commands.values():
            check_options(sub)
    else:
        assert command.help.splitlines()[0] == ENTRIES[name].help
        check_options(command)


def check_options(command: Any) -> None:
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.name == "help", parameter.name


def test_help_lists_every_command_in_its_group() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    titles = [shown.index(f"{title}:") for title in COMMANDS]
    assert titles == sorted(titles)
    assert all(f"  {name} " in shown for name in ENTRIES)


def test_an_unknown_command_is_said() -> None:
    done = CliRunner().invoke(app, ["serach"])
    assert done.exit_code == 2 and "serach" in done.output


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


def test_former_names_of_settings_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(quality_ocr_cer=0.3).quality_ocr_cer == 0.3
    (tmp_path / "quire.yaml").write_text("quality_by_hand_cer: 0.7\n")
    assert load_settings().quality_manual_cer == 0.7
    monkeypatch.setenv("QUIRE_QUALITY_BY_HAND_CER", "0.8")
    assert load_settings().quality_manual_cer == 0.8
    monkeypatch.setenv("QUIRE_QUALITY_MANUAL_CER", "0.9")  # today's name wins
    assert load_settings().quality_manual_cer == 0.9


def table(rows: list[dict[str, Any]], width: int, **options: Any) -> str:
    console = Console(width=width, file=StringIO())
    print_rows(rows, False, empty="nothing", console=console, **options)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_tables_fold_no_id_and_shorten_the_middle_of_paths() -> None:
    path = "/data/archive/2024/quarter-3/invoices/" + "x" * 60 + "/brightwater.pdf"
    rows = [{"doc_id": "3f" * 16, "status": "indexed", "pages": 12, "source": path}]
    narrow = table(rows, 80).splitlines()
    assert len(narrow) == 2
    assert "3f" * 16 in narrow[1] and narrow[1].rstrip().endswith("brightwater.pdf")
    assert "…" in narrow[1] and "/data" in narrow[1]
    assert path in table(rows, 300)
    notes = [{"model": "qwen3-vl-embedding-2b", "note": "word " * 40}]
    shown = table(notes, 60)
    assert "qwen3-vl-embedding-2b" in shown and len(shown.splitlines()) > 2  # the last one wraps


def test_a_path_keeps_its_name_as_long_as_it_can() -> None:
    assert shorten_path("/a/b/c.pdf", 20) == "/a/b/c.pdf"
    assert shorten_path("/long/folder/name/file.pdf", 16) == "/long/…/file.pdf"
    assert shorten_path("請求書/" * 9 + "合計.pdf", 20).endswith("合計.pdf")
    for chars in range(8, 30):
        assert cell_len(shorten_path("/data/請求書/" + "y" * 40 + ".pdf", chars)) <= chars


def test_paths_mean_the_same_in_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(store="data", page_images="kept", uploads="s3://bucket/up")
    absolute = settings.with_absolute_paths()
    monkeypatch.chdir("/")
    assert absolute.data_dir == tmp_path / "data"
    assert absolute.page_images_url == str(tmp_path / "kept")
    assert absolute.uploads_url == "s3://bucket/up"
    assert absolute.keys_path == tmp_path / "data" / "keys.json"
    shared = load_settings(store="http://milvus:19530", page_images="file:///mnt/pages")
    assert shared.with_absolute_paths().page_images_url == "file:///mnt/pages"
    assert shared.with_absolute_paths().store == "http://milvus:19530"
