"""`quire backup` and `quire restore`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from cluster.command_options import Json, Store, command, command_group
from cluster.settings import load_settings

OnlyOne = Annotated[
    str,
    typer.Option(
        "--collection", help="Only this collection, without keys and jobs; by default all."
    ),
]

app = command_group()


@command(app)
def backup(
    to: Annotated[str, typer.Argument(metavar="TO", help="An empty folder, or s3:// URL.")],
    collection: OnlyOne = "",
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait while documents are being indexed.")
    ] = 0,
    store: Store = None,
    json_: Json = False,
) -> None:
    """Write rows, page files, uploads, keys and jobs to a folder or to s3://, for `quire restore`.

    Refused while documents are being indexed or deleted: stop ingests, or wait with --wait.
    """
    settings = load_settings(store=store)
    from jobs.backup.write import make_backup
    from jobs.progress import show_steps

    with show_steps() as step:
        manifest = make_backup(settings, to, collection=collection, wait_s=wait, step=step)
    if json_:
        print(manifest.model_dump_json())
        return
    for each in manifest.collections:
        print(
            f"{each.name}: {each.documents:,} documents, {each.pages:,} pages, {each.rows:,} rows, "
            f"{each.page_files:,} page files, {each.uploads:,} uploads"
        )
    size = sum(part.bytes for part in manifest.files().values())
    keys = manifest.keys.entries if manifest.keys else 0
    jobs = sum(part.entries for part in manifest.job_parts)
    print(f"{size:,} bytes at {to}, with {keys} keys and {jobs} jobs")


@command(app)
def restore(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Where `quire backup` wrote.")],
    collection: OnlyOne = "",
    name: Annotated[
        str, typer.Option("--as", help="The name that the one collection gets here.")
    ] = "",
    store: Store = None,
    json_: Json = False,
) -> None:
    """Check a backup, then restore it into a store that lacks its collections.

    No collection that holds documents is overwritten. Keys are restored where there are none.
    """
    settings = load_settings(store=store)
    from jobs.backup.restore import restore_backup
    from jobs.progress import show_steps

    with show_steps() as step:
        restored = restore_backup(settings, source, collection=collection, name=name, step=step)
    if json_:
        print(json.dumps(asdict(restored)))
        return
    for each in restored.collections:
        print(
            f"{each.collection}: {each.documents:,} documents, {each.pages:,} pages, "
            f"{each.rows:,} rows, {each.page_files:,} page files, {each.uploads:,} uploads"
        )
    keys = {
        "restored": "keys restored",
        "kept": "keys kept as they are here: those of the backup are left alone",
        "none": "no keys",
    }[restored.keys]
    print(f"{keys}, {restored.jobs} jobs restored")
