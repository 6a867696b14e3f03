"""`quire export`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.command_options import (
    Collection,
    FilterText,
    Json,
    Store,
    Tags,
    Tenant,
    command,
    command_group,
)
from cluster.core import Filter
from cluster.errors import InvalidInput
from cluster.settings import load_settings

KINDS = ("pages", "chunks", "all")

app = command_group()


@command(app)
def export(
    out: Annotated[Path, typer.Argument(help="The file to write: .parquet, or .npz for numpy.")],
    rows: Annotated[
        str, typer.Option(help="pages, chunks of their text, or all.", metavar="|".join(KINDS))
    ] = "pages",
    tenant: Tenant = None,
    tag: Tags = None,
    filter_: FilterText = None,
    store: Store = None,
    collection: Collection = None,
    json_: Json = False,
) -> None:
    """Write a collection's vectors, and what is known of each row, into one file."""
    settings = load_settings(store=store, collection=collection)
    if rows not in KINDS:
        raise InvalidInput(f"--rows is one of {', '.join(KINDS)}, not {rows!r}")
    from cluster.store.filter_language import parse_filter
    from jobs.progress import show_steps
    from jobs.vector_files.export import export_rows

    condition = parse_filter(filter_) if filter_ else None
    wanted = Filter(tenant=tenant, tags=tuple(tag or ()), condition=condition)
    with show_steps() as step:
        exported = export_rows(settings, out, kind=rows, wanted=wanted, step=step)  # type: ignore[arg-type]
    if json_:
        print(json.dumps(asdict(exported)))
        return
    print(f"{exported.rows:,} vectors of {exported.dimension} dimensions: {exported.out}")
    print(f"by {exported.fingerprint}")
