"""`quire ingest`."""

import sys
from typing import Annotated

import typer

from cluster.command_options import (
    Collection,
    Dimensions,
    Json,
    MaxPixels,
    Metadata,
    Model,
    PlanFile,
    Precision,
    Store,
    Tags,
    command,
    command_group,
    parse_metadata,
    setting,
    settings_among,
)
from cluster.settings import load_settings

app = command_group()


@command(app)
def ingest(
    paths: Annotated[list[str], typer.Argument(help="Files, folders, globs or s3:// URLs.")],
    tenant: Annotated[str, typer.Option(help="The tenant that owns these documents.")] = "",
    tag: Tags = None,
    meta: Metadata = None,
    glob: Annotated[str, typer.Option(help="Take only names that match, e.g. '*.pdf'.")] = "",
    plan: PlanFile = None,
    model: Model = None,
    precision: Precision = None,
    dimensions: Dimensions = None,
    max_pixels: MaxPixels = None,
    workers: Annotated[int | None, setting("workers")] = None,
    gpus_per_worker: Annotated[float | None, setting("gpus_per_worker")] = None,
    batch_tokens: Annotated[int | None, setting("batch_tokens")] = None,
    ocr: Annotated[str | None, setting("ocr")] = None,
    multi_vectors: Annotated[str | None, setting("multi_vectors")] = None,
    tiles: Annotated[int | None, setting("tiles")] = None,
    late_interaction: Annotated[str | None, setting("late_interaction")] = None,
    quality: Annotated[str | None, setting("quality")] = None,
    ray_address: Annotated[str | None, setting("ray_address")] = None,
    store: Store = None,
    collection: Collection = None,
    json_: Json = False,
) -> None:
    """Index PDFs and images: render, read, embed and store every page."""
    settings = load_settings(**settings_among(locals()))
    from jobs.ingest.run import IngestRequest, run_ingest
    from jobs.ingest.summary import print_report

    request = IngestRequest(
        paths=tuple(paths),
        pattern=glob,
        tenant=tenant,
        tags=tuple(tag or ()),
        metadata=parse_metadata(meta),
    )
    report = run_ingest(settings, request)
    if json_:
        report.write_json(sys.stdout)
    else:
        print_report(report)
    if report.states["failed"]:
        raise typer.Exit(1)
