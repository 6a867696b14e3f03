"""Commands over what is indexed: search, documents, status, forget, upgrade; and vectors."""

import gc
import json
from dataclasses import asdict, replace
from datetime import datetime
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
from cluster.core import Filter, Query
from cluster.errors import FormatMismatch, InvalidInput, NotFound
from cluster.settings import Settings, load_settings

# As jobs/export_vectors.py has them; importing those would cost half a second.
VectorKind = Literal["multi", "hidden"]
STATUS_COLUMNS = ("collection", "documents", "pages", "indexing", "skipped", "failed", "model")
Pooling = Literal["none", "mean", "max", "std", "concat", "attention"]

# Of `quire search`: what a request may choose, and what is the service's own.
CHOICES = ("mode", "rerank", "rerank_k", "top_k", "sort")
LOCAL_FLAGS = {"evidence", "fusion", "dense_weight", "reranker", "late_interaction", "plan"}
LOCAL_FLAGS |= {"model", "precision", "dimensions", "max_pixels", "store"}

app = command_group()


@command(app)
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
    filter_: FilterText = None,
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
    url: Annotated[
        str, typer.Option(help="Ask the `quire serve` at this address; loads nothing here.")
    ] = "",
    json_: Json = False,
) -> None:
    """Find pages by text, by screenshot, or by both."""
    gc.disable()  # seconds of imports, all of which live until this process ends
    given = {name: value for name, value in locals().items() if value is not None}
    settings = load_settings(**settings_among(given))
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
    if url:
        if local := sorted(LOCAL_FLAGS & given.keys()):
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in local)
            raise InvalidInput(f"leave out {flags}: with --url the service has its own")
        from jobs.service import Service, search_body

        choices = {name: given.get(name) for name in CHOICES}
        body = search_body(text, image, wanted, filter_, choices)
        key = settings.api_key.get_secret_value()
        hits = Service(url, key, settings.request_timeout_s).search(body, collection)
    else:
        from cluster.store.filter_language import parse_filter_text

        wanted = replace(wanted, condition=parse_filter_text(filter_))
        query = Query(text=text, image=_read_image(image, settings), filter=wanted)
        from models.retrieval.local import open_retriever

        with open_retriever(settings) as retriever:
            hits = retriever.hits(query, settings)
    drawn = []
    if evidence is not None:
        from jobs.evidence_pictures import draw_evidence

        drawn = draw_evidence(settings, hits, text, evidence)
    if json_:
        rows = [
            {"rank": rank, "page_id": hit.page_id, **asdict(hit)}
            for rank, hit in enumerate(hits, start=1)
        ]
        print(json.dumps(rows, ensure_ascii=False, indent=1))
    else:
        from jobs.hits import print_hits

        print_hits(hits, text)
        if drawn:
            print(f"evidence: {len(drawn)} pictures in {evidence}")


@command(app)
def documents(
    tenant: Tenant = None,
    tag: Tags = None,
    meta: Metadata = None,
    filter_: FilterText = None,
    store: Store = None,
    collection: Collection = None,
    json_: Json = False,
) -> None:
    """List documents, newest first."""
    settings = load_settings(store=store, collection=collection)
    from cluster.store.filter_language import parse_filter_text
    from cluster.store.milvus import open_existing_store

    wanted = Filter(
        tenant=tenant,
        tags=tuple(tag or ()),
        metadata=parse_metadata(meta),
        condition=parse_filter_text(filter_),
    )
    with open_existing_store(settings) as opened:
        rows = [asdict(document) for document in opened.documents(wanted)]
    for row in rows:
        del row["marks"]
    columns = ("doc_id", "status", "pages", "source")
    print_rows(rows, json_, empty="no document passes", columns=columns)


@command(app)
def status(store: Store = None, json_: Json = False) -> None:
    """Show collections with their documents, pages and failures."""
    settings = load_settings(store=store)
    from cluster.store.milvus import open_existing_store

    rows = []
    with open_existing_store(settings) as opened:
        for name, fingerprint in opened.collections().items():
            row: dict[str, Any] = dict.fromkeys(STATUS_COLUMNS, "")
            row |= {"collection": name, "model": str(fingerprint)}
            collection = opened.collection(name)
            try:
                row |= {
                    "documents": collection.count_documents("indexed"),
                    "pages": collection.count_pages(),
                    "indexing": collection.count_documents("indexing"),
                    "skipped": collection.count_documents("skipped"),
                    "failed": collection.count_documents("failed"),
                }
            except FormatMismatch as error:  # of this one: the others are shown
                row["model"] = str(error)
            rows.append(row)
    print_rows(rows, json_, empty=f"nothing is indexed in {settings.store} yet: quire ingest DIR")


@command(app)
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
    """Remove documents for good: rows, page files, uploads; a whole tenant with its jobs."""
    settings = load_settings(store=store, collection=collection)
    from jobs.forget import forget_documents

    removed = forget_documents(settings, doc_id=doc_id, path=path, tenant=tenant)
    rows = [asdict(document) for document in removed]
    rows = [{"document": row.pop("doc_id"), **row} for row in rows]  # as programs know it
    columns = ("document", "rows", "images", "source")
    print_rows(rows, json_, empty="nothing was removed: no document passes", columns=columns)


@command(app)
def tag(
    doc_id: Annotated[
        list[str] | None, typer.Argument(help="Ids of documents (quire documents).")
    ] = None,
    path: Annotated[str, typer.Option(help="The one that was ingested from this path.")] = "",
    tenant: Annotated[str, typer.Option(help="The tenant that owns them.")] = "",
    add: Annotated[list[str] | None, typer.Option(help="A tag to add; may be repeated.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="A tag to remove; may be repeated.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="The title from now on.")] = None,
    meta: Annotated[
        list[str] | None, typer.Option("--meta", help="KEY=VALUE to set; may be repeated.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="A metadata key to remove; may be repeated.")
    ] = None,
    store: Store = None,
    collection: Collection = None,
    json_: Json = False,
) -> None:
    """Change tags, title or metadata of documents; nothing is embedded."""
    settings = load_settings(store=store, collection=collection)
    from jobs.change import Edit, change_documents

    edit = Edit(tuple(add or ()), tuple(remove or ()), title, parse_metadata(meta), set(drop or ()))
    changed = change_documents(settings, tenant, doc_id or (), path, edit)
    rows = [
        {"doc_id": each.doc_id, "title": each.title, "tags": list(each.tags)}
        | {"metadata": each.metadata, "source": each.source}
        for each in changed
    ]
    columns = ("doc_id", "tags", "metadata", "source")
    print_rows(rows, json_, empty="no such document", columns=columns)


@command(app)
def upgrade(store: Store = None, collection: Collection = None, json_: Json = False) -> None:
    """Bring a collection of an older Quire to today's format; nothing is embedded again."""
    settings = load_settings(store=store, collection=collection)
    from rich.console import Console
    from rich.progress import Progress

    from cluster.store.milvus import open_existing_store
    from cluster.store.upgrade import upgrade_collection

    with (
        open_existing_store(settings) as opened,
        Progress(console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task("copying rows", total=None)
        done = upgrade_collection(
            opened.address, lambda rows, total: progress.update(task, completed=rows, total=total)
        )
    if json_:
        print(json.dumps(asdict(done)))
    elif done.rows or done.format_before != done.format:
        print(
            f"{done.collection}: format {done.format_before} → {done.format}, {done.rows:,} rows "
            "copied with their vectors"
        )
    else:
        print(f"{done.collection} has format {done.format} already")


@command(app)
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
    from jobs.export_vectors import export_vectors

    pages = export_vectors(settings, file, kind=kind, pooling=pooling, out=out)
    print(f"{pages} pages in {out}")


def _read_image(path: Path | None, settings: Settings) -> Any:
    """Return a screenshot as a PIL image. Raises NotFound or InvalidInput."""
    if path is None:
        return None
    from models.images import decode_image

    if not path.is_file():
        raise NotFound(f"there is no image at {path}")
    return decode_image(path.read_bytes(), max_pixels=settings.max_image_pixels)
