"""`quire ingest`."""

import sys
from typing import TYPE_CHECKING, Annotated

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
    Tenant,
    command,
    command_group,
    parse_metadata,
    print_rows,
    setting,
    settings_among,
)
from cluster.errors import InvalidInput
from cluster.settings import Settings, load_settings

if TYPE_CHECKING:
    from jobs.ingest.report import IngestReport
    from jobs.ingest.request import IngestRequest

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
    chunk_chars: Annotated[int | None, setting("chunk_chars")] = None,
    chunk_overlap: Annotated[int | None, setting("chunk_overlap")] = None,
    chunk_vectors: Annotated[str | None, setting("chunk_vectors")] = None,
    ocr: Annotated[str | None, setting("ocr")] = None,
    multi_vectors: Annotated[str | None, setting("multi_vectors")] = None,
    tiles: Annotated[int | None, setting("tiles")] = None,
    late_interaction: Annotated[str | None, setting("late_interaction")] = None,
    quality: Annotated[str | None, setting("quality")] = None,
    ray_address: Annotated[str | None, setting("ray_address")] = None,
    store: Store = None,
    collection: Collection = None,
    reindex: Annotated[
        bool, typer.Option("--reindex", help="Do unchanged documents again, too.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Look at bytes, rows and page files of documents whose size and time are as they "
            "were, too.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, and how long it takes.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Then forget documents that are not in these folders any more; asks."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Prune without asking.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and ingest what is new or changed as it comes.")
    ] = False,
    every: Annotated[
        float, typer.Option(help="Seconds between two looks of --watch.", min=1)
    ] = 10.0,
    json_: Json = False,
) -> None:
    """Index PDFs and images: render, read, embed and store every page."""
    settings = load_settings(**settings_among(locals()))
    from jobs.ingest.request import IngestRequest
    from jobs.ingest.run import run_ingest

    request = IngestRequest(
        paths=tuple(paths),
        pattern=glob,
        tenant=tenant,
        tags=tuple(tag or ()),
        metadata=parse_metadata(meta),
        reindex=reindex,
        verify=verify,
    )
    if watch and prune:
        raise InvalidInput("--watch forgets nothing: prune with a command of its own")
    if dry_run:
        from jobs.ingest.preview import preview_ingest
        from jobs.ingest.summary import print_preview

        print_preview(preview_ingest(settings, request), as_json=json_)
        return
    try:
        if watch:
            _follow(settings, request, every, json_)
            return
        report = run_ingest(settings, request)
    except KeyboardInterrupt:
        print(
            "stopped: what was done is kept, and the same command goes on from there",
            file=sys.stderr,
        )
        raise typer.Exit(130) from None
    _print(report, json_)
    if prune and report.states["failed"]:
        print("nothing is pruned: what failed may be what has moved", file=sys.stderr)
    elif prune:
        _prune(settings, request, yes)
    if report.states["failed"]:
        raise typer.Exit(1)


@command(app)
def failures(
    tenant: Tenant = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Ingest them again, from where they were.")
    ] = False,
    store: Store = None,
    collection: Collection = None,
    json_: Json = False,
) -> None:
    """List documents that failed, whole or in some pages, and why; or ingest them again."""
    settings = load_settings(store=store, collection=collection)
    from jobs.ingest.failures import list_failures, retry_failures

    failed = list_failures(settings, tenant)
    if retry:
        reports = list(retry_failures(settings, failed))
        for report in reports:
            _print(report, json_)
        if any(report.states["failed"] for report in reports):
            raise typer.Exit(1)
        return
    rows = [
        {"status": each.status, "source": each.source, "tenant": each.tenant, "error": each.error}
        for each in failed
    ]
    print_rows(rows, json_, empty="nothing failed", columns=("status", "source", "error"))


def _follow(settings: Settings, request: "IngestRequest", every_s: float, json_: bool) -> None:
    from jobs.ingest.follow import follow_folders

    for report in follow_folders(settings, request, every_s):
        _print(report, json_)


def _print(report: "IngestReport", as_json: bool) -> None:
    if as_json:
        report.write_json(sys.stdout)
    else:
        from jobs.ingest.summary import print_report

        print_report(report)


def _prune(settings: Settings, request: "IngestRequest", yes: bool) -> None:
    """Forget documents that vanished, after asking."""
    from cluster.store.milvus import open_store
    from jobs.ingest.prune import find_vanished, forget_vanished

    with open_store(settings) as store:
        vanished = find_vanished(store, request)
        for document in vanished:
            print(f"gone: {document.source} ({document.pages} pages)", file=sys.stderr)
        if not vanished:
            print("nothing has vanished", file=sys.stderr)
        elif yes or typer.confirm(f"Forget these {len(vanished)} documents?", err=True):
            removed = list(forget_vanished(settings, store, vanished))
            print(f"{len(removed)} documents forgotten", file=sys.stderr)
