"""The command line: every command by name, loaded when it is called. `quire` or `python -m quire`.

The commands live beside the code that they run, in command.py; here is what they are called, in the
order and the groups in which people are shown them. Nothing heavy is imported, so that `--help`
answers at once.
"""

import atexit
import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

ABOUT = """Search large collections of documents by what is on the page.

Options that are settings (`quire settings` lists them) can also be set as QUIRE_NAME in the
environment, by a plan (--plan), or as `name:` in quire.yaml; what stands first here wins."""


@dataclass(frozen=True)
class CommandEntry:
    """Where a command is: `module` has a Typer app; what it does, in a line for the list."""

    module: str
    help: str
    is_group: bool = False  # the app as a whole, with commands of its own


# What people do → the commands for it.
COMMANDS: dict[str, dict[str, CommandEntry]] = {
    "Start": {
        "demo": CommandEntry(
            "jobs.demo.command",
            "Index a small library and search it by text, in Japanese, and by screenshot.",
        ),
    },
    "Index": {
        "ingest": CommandEntry(
            "jobs.ingest.command",
            "Index PDFs and images: render, read, embed and store every page.",
        ),
        "documents": CommandEntry("jobs.command", "List documents, newest first."),
        "failures": CommandEntry(
            "jobs.ingest.command",
            "List documents that failed, whole or in some pages, and why; or ingest them again.",
        ),
        "tag": CommandEntry(
            "jobs.command", "Change tags, title or metadata of documents; nothing is embedded."
        ),
        "forget": CommandEntry(
            "jobs.command",
            "Remove documents for good: rows, page files, uploads; a whole tenant with its jobs.",
        ),
        "quality": CommandEntry(
            "jobs.ocr_quality.command",
            "Predict a page's character error rate without running OCR, or train a predictor.",
            is_group=True,
        ),
    },
    "Search": {
        "search": CommandEntry("jobs.command", "Find pages by text, by screenshot, or by both."),
        "embed": CommandEntry(
            "jobs.vector_files.command",
            "Embed lines of text or documents into a file, without any store.",
        ),
        "vectors": CommandEntry(
            "jobs.command",
            "Write the multi-vectors of a document's pages, with the grid that they lie on.",
        ),
    },
    "Improve": {
        "evaluate": CommandEntry(
            "jobs.evaluation.command",
            "Measure how well a collection is searched, by questions whose right pages are known.",
        ),
    },
    "Serve": {
        "serve": CommandEntry("serve.command", "Run the service: a web page, and an HTTP API."),
        "keys": CommandEntry(
            "serve.auth.command", "Create, list and revoke API keys.", is_group=True
        ),
    },
    "Plan": {
        "plan": CommandEntry(
            "jobs.capacity.command",
            "Plan which models and replicas fit which GPUs, how fast and at what price.",
        ),
        "calibrate": CommandEntry(
            "jobs.capacity.command", "Measure speed and memory on this machine, for `quire plan`."
        ),
    },
    "Administer": {
        "status": CommandEntry(
            "jobs.command", "Show collections with their documents, pages and failures."
        ),
        "collections": CommandEntry(
            "jobs.collections.command", "List, copy, rename and drop collections.", is_group=True
        ),
        "export": CommandEntry(
            "jobs.vector_files.command",
            "Write a collection's vectors and rows to NPZ or Parquet, for `quire import` and "
            "others.",
        ),
        "import": CommandEntry(
            "jobs.vector_files.command",
            "Bring vectors from NPZ or Parquet into a collection of the same model; embeds "
            "nothing.",
        ),
        "backup": CommandEntry(
            "jobs.backup.command",
            "Write rows, page files, uploads, keys and jobs to a folder or to s3://, for "
            "`quire restore`.",
        ),
        "restore": CommandEntry(
            "jobs.backup.command",
            "Check a backup, then restore it into a store that lacks its collections.",
        ),
        "upgrade": CommandEntry(
            "jobs.command",
            "Bring a collection of an older Quire to today's format; nothing is embedded again.",
        ),
        "models": CommandEntry(
            "models.command",
            "List the models that Quire knows, with parameters and memory; --json has the rest.",
        ),
        "settings": CommandEntry(
            "models.command", "List every setting with its value here and what it does."
        ),
    },
}
ENTRIES = {name: entry for group in COMMANDS.values() for name, entry in group.items()}


class _LazyCommands(Mapping[str, Any]):
    """Commands by name, each loaded when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        entry = ENTRIES[name]
        group = typer.main.get_group(import_module(entry.module).app)
        if entry.is_group:
            group.name = name
            return group
        return group.commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


class QuireGroup(TyperGroup):
    """The root of the command line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _LazyCommands()  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:
        return list(ENTRIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return self.commands[cmd_name] if cmd_name in ENTRIES else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands in groups, without loading any."""
        for title, entries in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()])


app = typer.Typer(
    cls=QuireGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=ABOUT,
)


@app.callback()
def root() -> None:
    """Be the root: Typer needs a function for it, and it has no options."""


def main() -> None:
    """Run the `quire` command."""
    # What was imported lives until the end: to look for garbage in it then takes up to a second.
    atexit.register(gc.freeze)
    app(prog_name="quire")


if __name__ == "__main__":
    main()
