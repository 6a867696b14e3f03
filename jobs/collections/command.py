"""`quire collections`: list, copy, rename and drop collections."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cluster.command_options import Json, Store, command, command_group, print_rows
from cluster.errors import FormatMismatch, InvalidInput
from cluster.settings import Settings, load_settings

COLUMNS = ("collection", "documents", "pages", "model")
From = Annotated[str, typer.Argument(metavar="FROM", help="The collection that is there.")]
To = Annotated[str, typer.Argument(metavar="TO", help="The name of the new one.")]

app = command_group("List, copy, rename and drop collections.")


@command(app, "list")
def list_collections(store: Store = None, json_: Json = False) -> None:
    """List collections with their documents, pages and models."""
    settings = load_settings(store=store)
    from cluster.store.format import collection_names
    from cluster.store.milvus import open_existing_store

    rows = []
    with open_existing_store(settings) as opened:
        for name in collection_names(opened.client):
            row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"collection": name}
            collection = opened.collection(name)
            try:
                row |= {
                    "model": str(collection.fingerprint()),
                    "documents": collection.count_documents("indexed"),
                    "pages": collection.count_pages(),
                }
            except (InvalidInput, FormatMismatch) as error:  # of this one: the others are shown
                row["model"] = str(error)
            rows.append(row)
    print_rows(rows, json_, empty=f"there is no collection in {settings.store}: quire ingest DIR")


@command(app, "copy")
def copy(source: From, target: To, store: Store = None, json_: Json = False) -> None:
    """Copy a collection: rows with their vectors, page files and uploads; nothing is embedded."""
    from jobs.collections.copy import copy_collection

    _run(copy_collection, "copied", load_settings(store=store), source, target, json_)


@command(app, "rename")
def rename(source: From, target: To, store: Store = None, json_: Json = False) -> None:
    """Copy a collection, then drop the former name, which counts until all was copied.

    Where it is interrupted, run it again. A service of that collection is to be stopped before, and
    started with the new name.
    """
    from jobs.collections.copy import rename_collection

    _run(rename_collection, "renamed", load_settings(store=store), source, target, json_)


@command(app, "drop")
def drop(
    name: Annotated[str, typer.Argument(help="The collection to remove.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also while documents are being indexed.")
    ] = False,
    store: Store = None,
    json_: Json = False,
) -> None:
    """Remove a collection for good: rows, page files and uploads. Asks before it does."""
    settings = load_settings(store=store)
    from jobs.collections.drop import drop_collection, look_at_collection

    found = look_at_collection(settings, name)
    what = f"{found.documents:,} documents, {found.pages:,} pages, {found.files:,} files"
    if not yes:
        typer.confirm(f"remove {name} with {what}?", abort=True, err=True)
    dropped = drop_collection(settings, name, force=force)
    print(json.dumps(asdict(dropped)) if json_ else f"removed {name}: {what}")


def _run(
    copy: Callable[..., Any], done: str, settings: Settings, source: str, target: str, as_json: bool
) -> None:
    """Copy or rename, with its progress on standard error."""
    from jobs.progress import show_steps

    with show_steps() as step:
        copied = copy(settings, source, target, step)
    if as_json:
        print(json.dumps(asdict(copied)))
        return
    print(
        f"{done} {source} to {target}: {copied.documents:,} documents, {copied.rows:,} rows with "
        f"their vectors, {copied.files:,} files"
    )
