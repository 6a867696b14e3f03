"""Helpers for every command.py: options that are settings, one-line errors, tables."""

import json
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from cluster.core import Scalar
from cluster.errors import InvalidInput, QuireError
from cluster.settings import Settings

MIN_PATH_CHARS = 16  # of a path that a narrow terminal has no room for
COLUMN_GAP = 2
WIDE_COLUMNS = 1000  # where no terminal shows it, nothing needs to be cut or folded


def setting(name: str, *more: str) -> Any:
    """A command-line option for one of the Settings; its help and default are written there."""
    field = Settings.model_fields[name]
    flags = [f"--{name.replace('_', '-')}", *more]
    return typer.Option(*flags, help=f"{field.description} \\[default: {field.default!r}]")


PlanFile = Annotated[str | None, setting("plan")]
Store = Annotated[str | None, setting("store")]
Collection = Annotated[str | None, setting("collection")]
Model = Annotated[str | None, setting("model")]
Precision = Annotated[str | None, setting("precision")]
Dimensions = Annotated[int | None, setting("dimensions")]
MaxPixels = Annotated[int | None, setting("max_pixels")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant's documents.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated.")]
Metadata = Annotated[
    list[str] | None, typer.Option("--meta", help="KEY=VALUE metadata; may be repeated.")
]
FilterText = Annotated[
    str | None,
    typer.Option(
        "--filter", help='Conditions as JSON, e.g. \'{"year": {"gte": 2020}}\' (docs/search.md).'
    ),
]


def command_group(help_text: str = "") -> typer.Typer:
    """Return a Typer app for the commands of one package."""
    return typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=help_text)


def command(app: typer.Typer, name: str | None = None) -> Callable[..., Callable[..., None]]:
    """Register a function as a command; an error that a user can act on is one line."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        return app.command(name)(readable_errors(function))

    return register


def readable_errors(function: Callable[..., None]) -> Callable[..., None]:
    """Print a QuireError as one line on standard error and exit with 2."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except QuireError as error:
            Console(stderr=True, soft_wrap=True).print(
                f"[bold red]{type(error).__name__}[/]: {escape_text(str(error))}", highlight=False
            )
            raise typer.Exit(2) from None

    return call


def settings_among(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a command that are Settings."""
    return {name: value for name, value in arguments.items() if name in Settings.model_fields}


def parse_metadata(pairs: list[str] | None) -> dict[str, Scalar]:
    """KEY=VALUE pairs; a value that is a JSON number or boolean is one. Raises InvalidInput."""
    metadata: dict[str, Scalar] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidInput(f"--meta {pair!r}: write it as KEY=VALUE")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        metadata[key] = parsed if isinstance(parsed, int | float | bool) else value
    return metadata


def wide_console() -> Console:
    """Return the terminal, or as wide as it takes where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE_COLUMNS)


def print_rows(
    rows: Sequence[dict[str, Any]],
    as_json: bool,
    *,
    empty: str,
    columns: Sequence[str] = (),
    paths: Sequence[str] = ("source", "file"),
    console: Console | None = None,
) -> None:
    """Print rows of one shape: all of them as JSON, or the named columns as a table.

    Where a terminal is narrow, the middle of a path gives way first, then the last column wraps;
    other columns (ids, names, numbers) are never folded.
    """
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    if not rows:
        print(empty)
        return
    shown = tuple(columns or rows[0])
    console = console or wide_console()
    cells = [[str(row[name]) for name in shown] for row in rows]
    _shorten_paths(cells, [shown.index(name) for name in paths if name in shown], shown, console)
    table = Table(box=None, padding=(0, COLUMN_GAP, 0, 0), pad_edge=False)
    for name in shown:
        table.add_column(name, overflow="fold", no_wrap=name != shown[-1])
    for line in cells:
        table.add_row(*map(escape_text, line))
    console.print(table)


def _shorten_paths(
    cells: list[list[str]], places: Sequence[int], titles: Sequence[str], console: Console
) -> None:
    """Cut the middle of paths so that the table fits, as far as that helps."""
    for place in places:
        widths = [
            max(cell_len(text) for text in (titles[column], *(line[column] for line in cells)))
            for column in range(len(titles))
        ]
        excess = sum(widths) + COLUMN_GAP * len(widths) - console.width
        if excess > 0:
            limit = max(MIN_PATH_CHARS, widths[place] - excess)
            for line in cells:
                line[place] = shorten_path(line[place], limit)


def shorten_path(path: str, chars: int) -> str:
    """A path in at most so many columns: its middle gives way, its name stays as long as it can."""
    if cell_len(path) <= chars:
        return path
    name = path.rpartition("/")[2]
    tail = path[len(path) - len(name) - 1 :] if len(name) < len(path) else name
    while tail and cell_len(tail) > max(chars - 2, chars * 3 // 4):
        tail = tail[1:]
    head = path[: len(path) - len(tail)]
    while head and cell_len(head) + 1 + cell_len(tail) > chars:
        head = head[:-1]
    return f"{head}…{tail}"


def escape_text(text: str) -> str:
    """Text that rich does not read as markup."""
    return escape_markup(text)


def printable(text: str) -> str:
    """Text as a terminal can show it; a file's name may be no UTF-8."""
    return escape_text(text.encode(errors="replace").decode())
