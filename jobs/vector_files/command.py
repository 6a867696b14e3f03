"""`quire export`, `quire import` and `quire embed`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cluster.command_options import (
    Collection,
    Dimensions,
    FilterText,
    Json,
    MaxPixels,
    Metadata,
    Model,
    Precision,
    Store,
    Tags,
    Tenant,
    command,
    command_group,
    parse_metadata,
    print_rows,
    setting,
)
from cluster.core import Filter
from cluster.errors import InvalidInput
from cluster.settings import load_settings

# As cluster/store/row_stream.py and the models have them, which are slow to import.
RowKind = Literal["pages", "chunks", "all"]
VectorKind = Literal["vector", "multi", "hidden"]
Pooling = Literal["none", "mean", "max", "std", "concat", "attention", "last"]
InstructionText = Annotated[str | None, setting("instruction")]
OWN_MODEL = ("model", "pooling", "instruction", "precision", "dimensions", "max_pixels")
OWN_COLUMNS = ("vector_column", "id_column", "text_column", "image_column")

app = command_group()


@command(app)
def export(
    out: Annotated[
        str,
        typer.Argument(help="A file .npz or .parquet, or a folder or s3:// URL of Parquet parts."),
    ],
    rows: Annotated[RowKind, typer.Option(help="Rows of pages, of chunks of text, or all.")] = (
        "pages"
    ),
    tenant: Tenant = None,
    tag: Tags = None,
    meta: Metadata = None,
    document: Annotated[
        list[str] | None, typer.Option(help="Only this document id; may be repeated.")
    ] = None,
    filter_: FilterText = None,
    store: Store = None,
    collection: Collection = None,
    json_: Json = False,
) -> None:
    """Write a collection's vectors and rows to NPZ or Parquet, for `quire import` and others.

    Refused while documents are being indexed or deleted.
    """
    settings = load_settings(store=store, collection=collection)
    from cluster.store.filter_language import parse_filter_text
    from jobs.progress import show_steps
    from jobs.vector_files.export import export_rows

    wanted = Filter(
        tenant=tenant,
        tags=tuple(tag or ()),
        doc_ids=tuple(document or ()),
        metadata=parse_metadata(meta),
        condition=parse_filter_text(filter_),
    )
    with show_steps() as step:
        done = export_rows(settings, out, kind=rows, wanted=wanted, step=step)
    print(
        json.dumps(asdict(done)) if json_ else f"{done.rows:,} rows of {done.collection} in {out}"
    )


@command(app, "import")
def import_vectors(
    file: Annotated[
        str, typer.Argument(metavar="IN", help="What `quire export` or `quire embed` wrote.")
    ],
    foreign: Annotated[
        bool, typer.Option("--foreign", help="Another program wrote it, with --model's vectors.")
    ] = False,
    model: Model = None,
    pooling: Annotated[str | None, setting("pooling")] = None,
    instruction: InstructionText = None,
    precision: Precision = None,
    dimensions: Dimensions = None,
    max_pixels: MaxPixels = None,
    vector_column: Annotated[
        str, typer.Option(help="Of a foreign file: the column, or array, of vectors.")
    ] = "",
    id_column: Annotated[
        str, typer.Option(help="The one of ids; by default ids or id, else rows are numbered.")
    ] = "",
    text_column: Annotated[str, typer.Option(help="The one of the texts that were embedded.")] = "",
    image_column: Annotated[
        str, typer.Option(help="The one of the pictures that were embedded: paths beside the file.")
    ] = "",
    check_samples: Annotated[
        int | None,
        typer.Option(min=0, help="Rows to embed again and compare; 0 believes the file. [8]"),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="The tenant that gets it; by default as the file says.")
    ] = None,
    store: Store = None,
    collection: Collection = None,
    json_: Json = False,
) -> None:
    """Bring vectors from NPZ or Parquet into a collection of the same model; embeds nothing.

    Foreign files are checked: a few rows are embedded again and compared. The whole file is checked
    before anything is written, and what was interrupted can be run again.
    """
    given = {name: value for name, value in locals().items() if value not in (None, "")}
    of_foreign = [*OWN_MODEL, *OWN_COLUMNS, "check_samples"]
    if not foreign and (surplus := [name for name in of_foreign if name in given]):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in surplus)
        raise InvalidInput(f"leave out {flags}: a file of Quire's own says what it holds")
    chosen = {name: given.get(name) for name in OWN_MODEL}
    settings = load_settings(store=store, collection=collection, **chosen)
    from jobs.progress import show_steps

    with show_steps() as step:
        if foreign:
            from jobs.vector_files.foreign import import_foreign
            from jobs.vector_files.foreign_files import ForeignColumns

            columns = ForeignColumns(vector_column, id_column, text_column, image_column)
            checked = import_foreign(
                settings,
                file,
                columns,
                tenant=tenant or "",
                check_samples=8 if check_samples is None else check_samples,
                step=step,
            )
            counts = checked.counts
        else:
            from jobs.vector_files.load import import_file

            counts = import_file(settings, file, tenant=tenant, step=step)
    if json_:
        print(json.dumps(asdict(checked if foreign else counts)))
        return
    if foreign:
        print(f"{checked.checked} rows embedded again: worst cosine {checked.worst_cosine:.4f}")
    left = f"; {counts.left:,} rows left, whose documents others are at" if counts.left else ""
    print(
        f"{counts.documents:,} documents, {counts.pages:,} pages, {counts.rows:,} rows in "
        f"{settings.collection}{left}"
    )


@command(app)
def embed(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="IN", help="Lines of text (.txt, .jsonl), documents, or folders."),
    ],
    out: Annotated[Path, typer.Option(help="The file to write: .npz or .parquet.")],
    kind: Annotated[
        VectorKind,
        typer.Option(
            help="vector: the embedder's. multi: multi-vectors of pages; hidden: the states before."
        ),
    ] = "vector",
    pooling: Annotated[
        Pooling | None,
        typer.Option(
            help="last or mean of the embedder's tokens; of multi-vectors one of the others, where "
            "none keeps them all."
        ),
    ] = None,
    model: Model = None,
    instruction: InstructionText = None,
    precision: Precision = None,
    dimensions: Dimensions = None,
    max_pixels: MaxPixels = None,
    late_interaction: Annotated[str | None, setting("late_interaction")] = None,
    tiles: Annotated[int | None, setting("tiles")] = None,
    ocr: Annotated[str | None, setting("ocr")] = None,
    json_: Json = False,
) -> None:
    """Embed lines of text or documents into a file, without any store.

    What was interrupted goes on from its last part when the same command is run again.
    """
    settings = load_settings(
        model=model,
        pooling=pooling if kind == "vector" else None,
        instruction=instruction,
        precision=precision,
        dimensions=dimensions,
        max_pixels=max_pixels,
        late_interaction=late_interaction,
        tiles=tiles,
        ocr=ocr,
    )
    from jobs.progress import show_steps
    from jobs.vector_files.embed_files import embed_files, embed_late

    with show_steps() as step:
        if kind == "vector":
            done = embed_files(settings, sources, out, step=step)
        else:
            late_pooling: Any = pooling or "none"
            done = embed_late(settings, sources, out, kind=kind, pooling=late_pooling, step=step)
    is_ragged = kind != "vector" and pooling in (None, "none")
    rows = [
        {
            "source": name,
            "rows": counts.rows,
            "tokens": counts.tokens,
            "shape": f"{counts.tokens if is_ragged else counts.rows} × {done.dimension}",
            "failed": counts.failed,
        }
        for name, counts in done.tally.sources.items()
    ]
    print_rows(rows, json_, empty="there was nothing to embed")
    for item, why in done.tally.failed.items():
        print(f"{item}: {why}", file=sys.stderr)
    if done.tally.failed:
        raise typer.Exit(1)
