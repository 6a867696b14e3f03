"""The command line: one short function a command. `python -m quire` or `quire`.

Heavy imports stay inside the command that needs them, so that `--help` answers at once.
"""

import json
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from cluster.capacity.workload import Workload, checked, load_workload
from cluster.core import Filter, Hit, Query, Scalar
from cluster.environment import prepare_serving
from cluster.errors import InvalidInput, NotFound, QuireError
from cluster.settings import Settings, load_settings
from cluster.text.snippets import snippet

if TYPE_CHECKING:
    from jobs.ingest.report import IngestReport

SNIPPET_CHARS = 240
WIDE_COLUMNS = 150

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Search large collections of PDFs by what is on the page. Options that are settings "
    "(`quire settings` lists them) can also be set as QUIRE_NAME in the environment, by a plan "
    "(--plan), or as `name:` in quire.yaml; what stands first here wins.",
)


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
# As jobs/vectors.py has them; to import those would cost every command half a second.
VectorKind = Literal["multi", "hidden"]
Pooling = Literal["none", "mean", "max", "std", "concat", "attention"]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant's documents.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated.")]
Metadata = Annotated[
    list[str] | None, typer.Option("--meta", help="KEY=VALUE metadata; may be repeated.")
]
keys_app = typer.Typer(no_args_is_help=True, help="API keys of `quire serve`.")
app.add_typer(keys_app, name="keys")
quality_app = typer.Typer(
    no_args_is_help=True,
    help="How well will OCR read a page? Foretell it before any OCR is run, or train a predictor "
    "for your own documents and engine.",
)
app.add_typer(quality_app, name="quality")


def readable_errors(function: Callable[..., None]) -> Callable[..., None]:
    """An error that a user can act on is one line, not a traceback."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except QuireError as error:
            Console(stderr=True, soft_wrap=True).print(
                f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", highlight=False
            )
            raise typer.Exit(2) from None

    return run


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a command."""
    return app.command()(readable_errors(function))


@command
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
    from jobs.ingest.run import IngestRequest, run

    request = IngestRequest(
        paths=tuple(paths),
        pattern=glob,
        tenant=tenant,
        tags=tuple(tag or ()),
        metadata=parse_metadata(meta),
    )
    report = run(settings, request)
    if json_:
        print(report.to_json())
    else:
        print_report(report)
    if any(document.state == "failed" for document in report.documents):
        raise typer.Exit(1)


@command
def search(
    text: Annotated[str, typer.Argument(help="What to look for, in any language.")] = "",
    image: Annotated[Path | None, typer.Option(help="A screenshot to look for.")] = None,
    top_k: Annotated[int | None, setting("top_k", "-k")] = None,
    mode: Annotated[str | None, setting("mode")] = None,
    tenant: Tenant = None,
    tag: Tags = None,
    meta: Metadata = None,
    document: Annotated[
        list[str] | None, typer.Option(help="Only this document id; may be repeated.")
    ] = None,
    after: Annotated[datetime | None, typer.Option(help="Ingested at or after (UTC).")] = None,
    before: Annotated[datetime | None, typer.Option(help="Ingested before (UTC).")] = None,
    fusion: Annotated[str | None, setting("fusion")] = None,
    dense_weight: Annotated[float | None, setting("dense_weight")] = None,
    rerank: Annotated[str | None, setting("rerank")] = None,
    rerank_k: Annotated[int | None, setting("rerank_k")] = None,
    reranker: Annotated[str | None, setting("reranker")] = None,
    late_interaction: Annotated[str | None, setting("late_interaction")] = None,
    min_cer: Annotated[
        float | None, typer.Option(help="Only pages of at least this expected CER, 0 to 1.")
    ] = None,
    max_cer: Annotated[
        float | None, typer.Option(help="Only pages of at most this expected CER, 0 to 1.")
    ] = None,
    sort: Annotated[str | None, setting("sort")] = None,
    evidence: Annotated[
        Path | None, typer.Option(help="Folder for each page with what was found drawn over it.")
    ] = None,
    plan: PlanFile = None,
    model: Model = None,
    precision: Precision = None,
    dimensions: Dimensions = None,
    max_pixels: MaxPixels = None,
    store: Store = None,
    collection: Collection = None,
    json_: Json = False,
) -> None:
    """Find pages by text, by screenshot, or by both."""
    settings = load_settings(**settings_among(locals()))
    wanted = Filter(
        tenant=tenant,
        tags=tuple(tag or ()),
        doc_ids=tuple(document or ()),
        metadata=parse_metadata(meta),
        after=after,
        before=before,
        min_cer=min_cer,
        max_cer=max_cer,
    )
    query = Query(text=text, image=read_image(image, settings), filter=wanted)
    from models.retrieval.local import open_retriever

    with open_retriever(settings) as retriever:
        hits = retriever.hits(query, settings)
    drawn = []
    if evidence is not None:
        from jobs.evidence_pictures import run

        drawn = run(settings, hits, text, evidence)
    if json_:
        rows = [
            {"rank": rank, "page_id": hit.page_id, **asdict(hit)}
            for rank, hit in enumerate(hits, start=1)
        ]
        print(json.dumps(rows, ensure_ascii=False, indent=1))
    else:
        print_hits(hits, text)
        if drawn:
            print(f"evidence: {len(drawn)} pictures in {evidence}")


@command
def vectors(
    file: Annotated[Path, typer.Argument(help="A PDF or an image.")],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    kind: Annotated[
        VectorKind, typer.Option(help="Projected vectors, or the hidden states before them.")
    ] = "multi",
    pooling: Annotated[
        Pooling, typer.Option(help="One vector a page instead of one for each patch.")
    ] = "none",
    tiles: Annotated[int | None, setting("tiles")] = None,
    late_interaction: Annotated[str | None, setting("late_interaction")] = None,
) -> None:
    """Write the multi-vectors of a document's pages, with the grid that they lie on."""
    settings = load_settings(tiles=tiles, late_interaction=late_interaction)
    from jobs.export_vectors import run

    pages = run(settings, file, kind=kind, pooling=pooling, out=out)
    print(f"{pages} pages in {out}")


@command
def status(store: Store = None, json_: Json = False) -> None:
    """Show collections with their documents, pages and failures."""
    settings = load_settings(store=store)
    from cluster.store.milvus import open_store
    from models.retrieval.local import require_store

    require_store(settings)
    rows = []
    with open_store(settings) as opened:
        for name, fingerprint in opened.collections().items():
            each = opened.collection(name)
            rows.append(
                {
                    "collection": name,
                    "documents": each.count_documents("indexed"),
                    "pages": each.count_pages(),
                    "indexing": each.count_documents("indexing"),
                    "skipped": each.count_documents("skipped"),
                    "failed": each.count_documents("failed"),
                    "model": str(fingerprint),
                }
            )
    print_rows(rows, json_, empty=f"nothing is indexed in {settings.store} yet: quire ingest DIR")


@command
def documents(
    tenant: Tenant = None,
    tag: Tags = None,
    meta: Metadata = None,
    store: Store = None,
    collection: Collection = None,
    json_: Json = False,
) -> None:
    """List documents, newest first."""
    settings = load_settings(store=store, collection=collection)
    from cluster.store.milvus import open_store
    from models.retrieval.local import require_store

    require_store(settings)
    wanted = Filter(tenant=tenant, tags=tuple(tag or ()), metadata=parse_metadata(meta))
    with open_store(settings) as opened:
        found = opened.documents(wanted)
    rows = [asdict(document) for document in found]
    columns = ("doc_id", "status", "pages", "source")
    print_rows(rows, json_, empty="no document passes", columns=columns)


@command
def forget(
    doc_id: Annotated[str, typer.Argument(help="The document's id (quire documents).")] = "",
    path: Annotated[str, typer.Option(help="Forget what was ingested from this path.")] = "",
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant's; alone: all of it.")
    ] = None,
    store: Store = None,
    collection: Collection = None,
    json_: Json = False,
) -> None:
    """Remove documents: their rows and their page images, at once invisible."""
    settings = load_settings(store=store, collection=collection)
    from jobs.forget import run
    from models.retrieval.local import require_store

    require_store(settings)
    removed = run(settings, doc_id=doc_id, path=path, tenant=tenant)
    rows = [asdict(each) for each in removed]
    columns = ("document", "rows", "images", "source")
    print_rows(rows, json_, empty="nothing was removed: no document passes", columns=columns)


@command
def serve(
    host: Annotated[str | None, setting("host")] = None,
    port: Annotated[int | None, setting("port")] = None,
    allow_anonymous: Annotated[
        bool | None, typer.Option("--allow-anonymous", help="Need no key on any address.")
    ] = None,
    emit_config: Annotated[
        bool, typer.Option("--emit-config", help="Print a file for `serve deploy` and end.")
    ] = False,
    plan: PlanFile = None,
    mode: Annotated[str | None, setting("mode")] = None,
    rerank: Annotated[str | None, setting("rerank")] = None,
    model: Model = None,
    reranker: Annotated[str | None, setting("reranker")] = None,
    precision: Precision = None,
    ray_address: Annotated[str | None, setting("ray_address")] = None,
    store: Store = None,
    collection: Collection = None,
) -> None:
    """Serve searches: a web page, and routes that programs know."""
    settings = load_settings(**settings_among(locals()))
    if emit_config:
        import yaml

        from serve.app import emit_config as config_of

        print(yaml.safe_dump(config_of(settings), sort_keys=False, allow_unicode=True), end="")
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # while it starts, like Ctrl-C
    prepare_serving()
    from serve.launch import serving

    console = Console(soft_wrap=True, highlight=False)
    with console.status("starting Ray and the models"), ExitStack() as stack:
        url = stack.enter_context(serving(settings))
        running = stack.pop_all()
    with running:
        console.print(f"[bold]{url}[/]        the page; its routes: {url}/docs")
        console.print("Ctrl-C stops it.", style="dim")
        wait_for_signal()
        console.print("stopping: requests in progress may end")


def wanted(name: str) -> Any:
    """A command-line option for one of the Workload's fields; its help is written there."""
    return typer.Option(help=Workload.model_fields[name].description)


@command
def plan(
    workload: Annotated[
        Path | None, typer.Option(help="A YAML file with these options, and `cards` of your own.")
    ] = None,
    gpus: Annotated[str | None, wanted("gpus")] = None,
    pages: Annotated[int | None, wanted("pages")] = None,
    deadline: Annotated[str | None, wanted("deadline")] = None,
    budget: Annotated[float | None, wanted("budget")] = None,
    qps: Annotated[float | None, wanted("qps")] = None,
    p95: Annotated[str | None, wanted("p95")] = None,
    rerank_k: Annotated[int | None, wanted("rerank_k")] = None,
    screenshots: Annotated[float | None, wanted("screenshots")] = None,
    max_pixels: Annotated[int | None, wanted("max_pixels")] = None,
    dimensions: Annotated[int | None, wanted("dimensions")] = None,
    rows_per_page: Annotated[float | None, wanted("rows_per_page")] = None,
    scanned: Annotated[float | None, wanted("scanned")] = None,
    multi_vectors: Annotated[str | None, wanted("multi_vectors")] = None,
    late_interaction: Annotated[str | None, wanted("late_interaction")] = None,
    uploads: Annotated[str | None, wanted("uploads")] = None,
    quality: Annotated[str | None, wanted("quality")] = None,
    generator: Annotated[str | None, wanted("generator")] = None,
    answers: Annotated[float | None, wanted("answers")] = None,
    models: Annotated[str | None, wanted("models")] = None,
    rerankers: Annotated[str | None, wanted("rerankers")] = None,
    precisions: Annotated[str | None, wanted("precisions")] = None,
    cpus: Annotated[int | None, wanted("cpus")] = None,
    prices: Annotated[str | None, wanted("prices")] = None,
    profile: Annotated[
        Path | None, typer.Option(help="What `quire calibrate` measured, where it is kept apart.")
    ] = None,
    choose: Annotated[
        str, typer.Option(help="The plan for --out and --emit: cheapest, fastest, smallest, or N.")
    ] = "1",
    out: Annotated[
        Path | None, typer.Option(help="Write that plan, for ingest and serve --plan.")
    ] = None,
    emit: Annotated[
        Path | None, typer.Option(help="Write Kubernetes manifests for that plan to a folder.")
    ] = None,
    image: Annotated[
        str, typer.Option(help="Quire's container image in these manifests, with its tag.")
    ] = "",
    chart: Annotated[Path | None, typer.Option(help="Draw the plans to a PNG file.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Show every plan and reason.")] = False,
    store: Store = None,
    json_: Json = False,
) -> None:
    """Which models, precisions and replicas fit which GPUs, how fast and at what price."""
    flags = {name: value for name, value in locals().items() if name in Workload.model_fields}
    asked = load_workload(workload, **flags)
    if profile is not None and not profile.is_file():
        raise InvalidInput(f"there is no profile {profile}: make one with `quire calibrate --out`")
    if chart is not None and chart.suffix.lower() != ".png":
        raise InvalidInput(f"the chart is a PNG: name a file.png, not {chart}")
    from jobs.capacity.plan import choose as chosen_of
    from jobs.capacity.plan import run
    from jobs.capacity.report import print_outcome, to_json, to_markdown, write_chart

    outcome = run(load_settings(store=store), asked, profile)
    chosen = chosen_of(outcome, choose) if outcome.plans else None
    if json_:
        print(to_json(outcome))
    elif markdown:
        print(to_markdown(outcome, chosen=chosen, whole=all_))
    else:
        console = Console()
        if not console.is_terminal:  # which would be taken as 80 columns
            console = Console(width=WIDE_COLUMNS)
        print_outcome(outcome, console, chosen=chosen, whole=all_)
    if chosen is None:
        raise typer.Exit(1)
    said = Console(stderr=True, soft_wrap=True, highlight=False).print
    number = outcome.plans.index(chosen) + 1
    try:
        if out is not None:
            out.write_text(chosen.to_yaml())
            said(f"plan {number} is in {out}: quire ingest DIR --plan {out}")
        if chart is not None:
            write_chart(outcome, chart)
            said(f"the chart is in {chart}")
        if emit is not None:
            from cluster.kubernetes.folder import write_manifests

            write_manifests(chosen, emit, image=image)
            said(f"plan {number} is in {emit}: kubectl apply -k {emit} (docs/kubernetes.md)")
    except OSError as error:
        raise InvalidInput(f"{error.filename} cannot be written: {error.strerror}") from error
    if chosen.misses:
        raise typer.Exit(1)


@command
def calibrate(
    model: Model = None,
    random_weights: Annotated[
        str, typer.Option(help="2b or 8b: weights of that shape instead of a checkpoint.")
    ] = "",
    precisions: Annotated[
        str, typer.Option(help="As bf16,nf4. \\[default: bf16,int8,nf4 on a GPU, fp32 on a CPU]")
    ] = "",
    pixels: Annotated[
        str, typer.Option(help="Page sizes in px, as 524288,1048576; by default around its own.")
    ] = "",
    batch_tokens: Annotated[
        str, typer.Option(help="Batch budgets. \\[default: 8192,16384,32768; the least on a CPU]")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="The profile to add to; by default in the store's folder.")
    ] = None,
    store: Store = None,
) -> None:
    """Measure speed and memory on this machine, for `quire plan`."""
    settings = load_settings(store=store, model=model)
    from cluster.capacity.profile import PROFILE_FILE
    from jobs.capacity.calibrate import CalibrationRequest, run

    given = {
        "model": settings.model,
        "random_weights": random_weights,
        "precisions": precisions,
        "pixels": pixels,
        "batch_tokens": batch_tokens,
    }
    request = checked(CalibrationRequest, "calibration", given)
    file = out or settings.data_dir / PROFILE_FILE
    run(request, file, lambda line: print(line, flush=True))
    print(f"in {file}; `quire plan` uses it for such cards")


@keys_app.command("create")
@readable_errors
def create_key(
    tenant: Annotated[str, typer.Option(help="The tenant whose pages the key may see.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="search, ingest or admin; may be repeated. \\[default: search]"),
    ] = None,
    note: Annotated[str, typer.Option(help="Who or what it is for.")] = "",
    store: Store = None,
) -> None:
    """Create a key and show it, once."""
    settings = load_settings(store=store)
    from serve.auth.keys import KeyRing

    key, text = KeyRing(settings.keys_path).create(tenant, tuple(scope or ("search",)), note)
    print(text)
    Console(stderr=True).print(
        f"key {key.key_id}, tenant {tenant!r}, {', '.join(key.scopes)}: it is not shown again",
        style="dim",
    )


@keys_app.command("list")
@readable_errors
def list_keys(store: Store = None, json_: Json = False) -> None:
    """List keys, without their secrets."""
    settings = load_settings(store=store)
    from serve.auth.keys import KeyRing

    rows = [
        {
            "key": key.key_id,
            "tenant": key.tenant,
            "scopes": ", ".join(key.scopes),
            "note": key.note,
            "created": datetime.fromtimestamp(key.created, UTC).isoformat(timespec="seconds"),
            "revoked": key.revoked,
        }
        for key in KeyRing(settings.keys_path).keys()  # noqa: SIM118 — a method of its own
    ]
    print_rows(rows, json_, empty="there is no key: quire keys create")


@keys_app.command("revoke")
@readable_errors
def revoke_key(
    key: Annotated[str, typer.Argument(help="Its id (quire keys list).")], store: Store = None
) -> None:
    """Make a key useless, at once."""
    settings = load_settings(store=store)
    from serve.auth.keys import KeyRing

    print(f"revoked {KeyRing(settings.keys_path).revoke(key).key_id}")


@command
def demo(
    pdfs: Annotated[str, typer.Option(help="Use this folder, not the made-up library.")] = "",
    store: Annotated[str, typer.Option(help="Folder for the demo's library and index.")] = (
        "./quire-demo"
    ),
) -> None:
    """Index a small library and search it by text, in Japanese, and by screenshot."""
    settings = load_settings(store=store, top_k=3)
    from jobs.demo.searches import DemoSearch, prepare
    from jobs.ingest.run import IngestRequest, run
    from models.retrieval.local import open_retriever

    console = Console()
    console.rule("1. ingest")
    folder = prepare(settings, pdfs)
    report = run(settings, IngestRequest(paths=(str(folder),)))
    print_report(report)
    with open_retriever(settings) as retriever:
        for number, search in enumerate(DemoSearch.all_for(settings, folder, bool(pdfs)), start=2):
            console.rule(f"{number}. {search.title}")
            hits = retriever.hits(search.query, settings)
            print_hits(hits, search.query.text)
    console.rule("Where to go next")
    console.print(
        f"quire serve --store {store}       # the same in a browser\n"
        f'quire search "your words" --store {store}\n'
        f"quire search --image shot.png --store {store}\n"
        "quire ingest DIR            # your own PDFs, into ./quire-data\n"
        "quire --help",
        highlight=False,
    )


@command
def models(json_: Json = False) -> None:
    """List the models that Quire knows, with parameters and memory; --json has the rest."""
    from cluster.capacity.formulas import weight_bytes
    from models.registry import registry

    rows = []
    for spec in registry.specs.values():
        gib = {
            precision: round(weight_bytes(spec.shape, precision) / 2**30, 2)
            for precision in ("fp32", "bf16", "int8", "nf4")
        }
        rows.append(
            {
                "model": spec.name,
                "kind": spec.kind,
                "parameters": spec.shape.parameters.total,
                "dimensions": spec.dimension,
                "max_pixels": spec.max_pixels,
                **gib,
                "checkpoint": spec.checkpoint,
                "revision": spec.revision,
                "note": spec.note,
            }
        )
    columns = ("model", "kind", "parameters", "fp32", "bf16", "int8", "nf4")
    print_rows(rows, json_, empty="", columns=columns)
    if not json_:
        print("\nfp32 to nf4: GiB of weights; activations come on top.")


@command
def settings(json_: Json = False) -> None:
    """List every setting with its value here and what it does."""
    current = load_settings()
    values = current.model_dump(mode="json")
    rows = [
        {"setting": name, "value": values[name], "meaning": field.description}
        for name, field in Settings.model_fields.items()
    ]
    if json_:
        print_rows(rows, json_, empty="")
        return
    console = Console(highlight=False)
    for row in rows:
        value = escape(json.dumps(row["value"], ensure_ascii=False))
        console.print(f"[bold]{row['setting']}[/] = {value}\n    {escape(str(row['meaning']))}")


@quality_app.command("label")
@readable_errors
def label_quality(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Folders or files: PDFs with a text layer, or any document NAME.* with its "
            "transcript NAME.txt (and NAME.json, flat {field: value})."
        ),
    ],
    into: Annotated[
        Path, typer.Option(help="Folder of the training set; rows that it has are not made again.")
    ] = Path("quality-labels"),
    variants: Annotated[
        int, typer.Option(help="Damaged copies of each page; 0 labels pages only as they are.")
    ] = 5,
    pages: Annotated[
        int, typer.Option(help="Most pages of one document, evenly spread; 0 takes all.")
    ] = 3,
    seed: Annotated[int, typer.Option(help="Same seed, same damage.")] = 0,
    engine: Annotated[str, typer.Option(help="The OCR engine to label with.")] = "tesseract",
    ocr_languages: Annotated[str | None, setting("ocr_languages")] = None,
    workers: Annotated[int | None, typer.Option(help="Pages read at once; 0: one a core.")] = None,
    ray_address: Annotated[str | None, setting("ray_address")] = None,
    json_: Json = False,
) -> None:
    """Build a training set: damage pages on purpose, let the engine read them, compare."""
    settings = load_settings(**settings_among(locals()))
    from jobs.ocr_quality.engines import find_engine
    from jobs.ocr_quality.label import LabelRequest, run

    reader = find_engine(engine, settings.ocr_languages, timeout_s=settings.page_timeout_s)
    request = LabelRequest(tuple(paths), into, variants, pages, seed)
    report = run(settings, request, reader)
    if json_:
        print(report.to_json())
        return
    print(
        f"{report.pages_done} new page variants of {report.documents} documents in {into} "
        f"({report.seconds:.0f} s, {reader.name} {reader.version})"
    )
    rows = [{"not labelled": name, "why": why} for name, why in report.skipped.items()]
    print_rows(rows, False, empty="next: quire quality train")


@quality_app.command("train")
@readable_errors
def train_quality(
    labels: Annotated[
        Path, typer.Option(help="The training set that `quire quality label` made.")
    ] = Path("quality-labels"),
    into: Annotated[
        Path, typer.Option(help="Folder of the predictor; use it by --quality-model.")
    ] = Path("quality-model"),
    regression: Annotated[str, typer.Option(help="lightgbm or svr.")] = "lightgbm",
    vectors: Annotated[
        str,
        typer.Option(
            help="Multi-vectors to use beside image statistics: hidden (the states before the "
            "projection), vectors (the projected ones), or none."
        ),
    ] = "hidden",
    pooling: Annotated[
        str, typer.Option(help="mean, max, std, concat or attention; empty: the best one found.")
    ] = "",
    compare: Annotated[
        bool, typer.Option(help="Compare all feature sets; without, only what is asked for.")
    ] = True,
    late_interaction: Annotated[str | None, setting("late_interaction")] = None,
    json_: Json = False,
) -> None:
    """Train a predictor, try it on documents it has not seen, and write a report."""
    settings = load_settings(late_interaction=late_interaction)
    from jobs.ocr_quality.report import write_report
    from jobs.ocr_quality.train import TrainRequest, as_json, run

    if regression not in ("lightgbm", "svr") or vectors not in ("hidden", "vectors", "none"):
        raise InvalidInput("regression is lightgbm or svr; vectors is hidden, vectors or none")
    source = "" if vectors == "none" else vectors
    model = open_late_interaction(settings) if source else None
    request = TrainRequest(labels, into, regression, source, pooling, compare)  # type: ignore[arg-type]
    report = run(request, model)
    page = write_report(report, into / "report")
    if json_:
        print(json.dumps(as_json(report), indent=1))
        return
    columns = ("features", "mae", "of_mean", "spearman", "auroc", "calibration")
    rows = [
        {name: row[name] if name == "features" else f"{row[name]:.3f}" for name in columns}
        for row in report.comparison
    ]
    print_rows(rows, False, empty="")
    for remark in report.remarks:
        print(remark)
    print(f"predictor: {into}   report: {page}")


@quality_app.command("predict")
@readable_errors
def predict_quality(
    files: Annotated[list[str], typer.Argument(help="PDFs, images, folders or globs.")],
    quality_model: Annotated[str | None, setting("quality_model")] = None,
    quality_read_cer: Annotated[float | None, setting("quality_read_cer")] = None,
    quality_by_hand_cer: Annotated[float | None, setting("quality_by_hand_cer")] = None,
    json_: Json = False,
) -> None:
    """Foretell error rates of pages and what to do with them: read, rescan or by hand."""
    settings = load_settings(**settings_among(locals()))
    from jobs.ocr_quality.predict import run
    from models.ocr_quality.predictor import open_predictor

    predictor = open_predictor(settings)
    found = list(run(settings, tuple(files), predictor))
    if json_:
        print(json.dumps([page.to_row() for page in found], ensure_ascii=False, indent=1))
    else:
        print_quality(found, predictor.engine)
    if any(page.error for page in found):
        raise typer.Exit(1)


def open_late_interaction(settings: Settings) -> Any:
    """The late-interaction model of the settings. Raises ModelUnavailable."""
    from models.late_interaction.model import ColPaliModel
    from models.options import LateInteractionOptions

    return ColPaliModel(LateInteractionOptions.from_settings(settings))


def print_quality(pages: list[Any], engine: str) -> None:
    """One line a page: expected error rates, their interval, and the verdict."""
    rows = []
    for page in pages:
        said = page.prediction
        interval = f"{said.cer_low:.2f}–{said.cer_high:.2f}" if said else ""
        rows.append(
            {
                "page": page.page or "",
                "CER": f"{said.cer:.2f}" if said else "",
                "interval": interval,
                "WER": f"{said.wer:.2f}" if said else "",
                "verdict": page.verdict or "failed",
                "file": Path(page.source).name + (f": {page.error}" if page.error else ""),
            }
        )
    print_rows(rows, False, empty="no page found")
    known = next((page.prediction for page in pages if page.prediction), None)
    if known:
        print(f"\nexpected of {engine}; the interval holds {known.interval:.0%} of pages")


def wait_for_signal() -> None:
    """Wait until the process is told to stop."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def settings_among(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a command that are Settings."""
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


def read_image(path: Path | None, settings: Settings) -> Any:
    """A screenshot as a PIL image. Raises NotFound or InvalidInput."""
    if path is None:
        return None
    from models.images import decode_image

    if not path.is_file():
        raise NotFound(f"there is no image at {path}")
    return decode_image(path.read_bytes(), max_pixels=settings.max_image_pixels)


def print_hits(hits: list[Hit], query: str) -> None:
    """Rank, document, page, the scores that made the rank, and a snippet."""
    console = Console(soft_wrap=True, highlight=False)
    if not hits:
        console.print("no page found")
    for rank, hit in enumerate(hits, start=1):
        scores = {
            "maxsim": hit.maxsim,
            "rerank": hit.rerank,
            "fused": hit.fused,
            "dense": hit.dense,
            "text": hit.text_score,
            "expected CER": hit.expected_cer,
        }
        shown = "  ".join(
            f"{name} {score:.4f}" for name, score in scores.items() if score is not None
        )
        name = escape(Path(hit.source).name)
        console.print(f"[bold]{rank:2}. {name}  page {hit.page}[/]  [cyan]{shown}[/]")
        console.print(f"    {escape(snippet(hit.text, query, chars=SNIPPET_CHARS))}")
        console.print(f"    [dim]{hit.page_id}[/]")


def print_report(report: "IngestReport") -> None:
    """The closing table of an ingest, and where the time went."""
    console = Console()
    troubled = [each for each in report.documents if each.state in ("skipped", "failed")]
    table = Table(title="Ingest", show_header=False)
    for state in ("indexed", "unchanged", "skipped", "failed"):
        table.add_row(state, f"{report.states.get(state, 0)} documents")
    table.add_row("new pages", f"{report.new_pages} ({report.pages_per_s:.1f} pages/s)")
    table.add_row("failed pages", str(report.failed_pages))
    waiting = report.seconds - report.working_seconds
    table.add_row(
        "time", f"{report.seconds:.1f} s, of which {waiting:.1f} s to start Ray and the models"
    )
    spent = "  ".join(f"{stage} {s:.1f} s" for stage, s in report.stage_seconds.items())
    table.add_row("time of all workers", spent)
    for model, tokens in report.halved_batch_tokens.items():
        table.add_row("out of memory", f"{model} went on with batches of {tokens:,} tokens")
    table.add_row("collection", f"{report.collection}: {report.fingerprint}")
    table.add_row("report", report.file)
    console.print(table)
    unread = [each for each in report.documents if each.pages_without_text]
    if troubled or unread or report.failed_pages:
        rows = Table(title="Not indexed, or not all of it")
        for column in ("state", "why", "source", "what to do"):
            rows.add_column(column, overflow="fold")
        for each in troubled:
            rows.add_row(each.state, each.reason, shown(each.source), escape(each.message))
        for each in report.documents:
            for page, why in each.failed_pages.items():
                if each.state == "indexed":
                    rows.add_row("failed", f"page {page}", shown(each.source), escape(why))
        for each in unread:
            for page, why in each.pages_without_text.items():
                rows.add_row("no text", f"page {page}", shown(each.source), escape(why))
        console.print(rows)


def print_rows(
    rows: list[dict[str, Any]], as_json: bool, *, empty: str, columns: tuple[str, ...] = ()
) -> None:
    """Rows of one shape: all of them as JSON, or the named columns as a table."""
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    if not rows:
        print(empty)
        return
    shown = columns or tuple(rows[0])
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in shown:
        # The last column tells the most and may wrap; the others are ids, words and numbers.
        table.add_column(name, overflow="fold", no_wrap=name != shown[-1])
    for row in rows:
        table.add_row(*(escape(str(row[name])) for name in shown))
    Console().print(table)


def shown(source: str) -> str:
    """A source as a terminal can show it; a file's name may be no UTF-8."""
    return escape(source.encode(errors="replace").decode())


def escape(text: str) -> str:
    """Text that rich shall not read as markup."""
    from rich.markup import escape as escape_markup

    return escape_markup(text)


def main() -> None:
    """The `quire` command."""
    app()


if __name__ == "__main__":
    main()
