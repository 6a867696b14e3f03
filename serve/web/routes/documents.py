"""Documents: upload, list, fetch, index again, remove."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile

from cluster.core import DocumentStatus, Filter, Scalar
from cluster.errors import InvalidInput, NotFound, StoreUnavailable, UnreadableDocument
from cluster.ids import sha256_of
from cluster.sources import local_copy
from cluster.store.filter_language import parse_filter_text
from cluster.store.schema import check_document_fields
from jobs.journal import JobRequest
from jobs.uploads import doc_id_of_upload, safe_name
from serve.router import Router
from serve.web.bodies import (
    FILTER_HELP,
    MAX_URL_CHARS,
    DocumentBody,
    DocumentChange,
    DocumentList,
    JobAccepted,
    NamesakeBody,
    RemovedBody,
    Tenant,
    file_name,
)
from serve.web.dependencies import FILE_FIELD, Chosen, Ingester, Searcher, body_schema, is_form

routes = APIRouter(prefix="/v1/documents", tags=["documents"])
MAX_FILES = 100
DocumentId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
UPLOAD_BODY = body_schema(
    {
        "files": {
            "type": "array",
            "items": FILE_FIELD,
            "description": "PDF, PNG, JPEG, TIFF or WebP files.",
        },
        "tags": {"type": "string", "description": "Separated by commas."},
        "metadata": {"type": "string", "description": "A JSON object."},
        "tenant": {"type": "string"},
        "replaces": {
            "type": "string",
            "description": "Id of the document that this one file replaces: it is forgotten once "
            "the new one is in.",
        },
    },
    required=("files",),
)


@routes.post("", status_code=202, openapi_extra=UPLOAD_BODY)
async def upload(request: Request, service: Chosen, caller: Ingester) -> JobAccepted:
    """Keep documents and index them in the background; the job tells how far it is."""
    if not is_form(request):
        raise InvalidInput("upload documents as multipart/form-data with a field `files`")
    async with request.form(max_files=MAX_FILES, max_fields=8) as form:
        tenant = caller.one_tenant(_text(form.get("tenant")) or None)
        tags = tuple(tag.strip() for tag in _text(form.get("tags")).split(",") if tag.strip())
        metadata = _metadata(_text(form.get("metadata")))
        check_document_fields(tenant, tags, metadata)
        files = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
        if not files:
            raise InvalidInput("there is no file in the field `files`")
        replaces = _text(form.get("replaces"))
        if replaces:
            await _check_replaces(service, tenant, replaces, len(files))
        names = [safe_name(file.filename or "") for file in files]
        namesakes = await _namesakes(service, tenant, names)  # before anything is kept
        paths = [
            await service.keep_upload(tenant, file.filename or "", file.file) for file in files
        ]
        size = sum(file.size or 0 for file in files)
    sources = tuple(dict.fromkeys(paths))
    uploaded = {doc_id_of_upload(source) for source in sources} | {replaces}
    others = [each for each in namesakes if each.doc_id not in uploaded]
    job_request = JobRequest(
        "ingest", tenant, sources, tags, metadata, replaces, service.settings.collection, size
    )
    job = await service.submit(job_request)
    return JobAccepted(job_id=job.job_id, status=job.status, same_name=others)


@routes.get("")
async def documents(
    service: Chosen,
    caller: Searcher,
    tenant: Tenant | None = None,
    tag: Annotated[str, Query(max_length=256)] = "",
    status: DocumentStatus | None = None,
    q: Annotated[str, Query(max_length=256, description="Part of the title or name.")] = "",
    filter: Annotated[
        str, Query(max_length=MAX_URL_CHARS, description=f"{FILTER_HELP} JSON.")
    ] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> DocumentList:
    """Documents, newest first, of which the newest 10,000 can be turned to."""
    wanted = Filter(
        tenant=caller.tenant_for(tenant),
        tags=(tag,) if tag else (),
        condition=parse_filter_text(filter),
    )
    listed, total = await service.documents(wanted, status, q, limit, offset)
    return DocumentList(documents=list(map(DocumentBody.of, listed)), total=total)


@routes.get("/{doc_id}")
async def document(
    doc_id: DocumentId, service: Chosen, caller: Searcher, tenant: Tenant | None = None
) -> DocumentBody:
    """Return one document."""
    return DocumentBody.of(await service.document(caller.one_tenant(tenant), doc_id))


@routes.get(
    "/{doc_id}/original",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def original(
    doc_id: DocumentId, service: Chosen, caller: Searcher, tenant: Tenant | None = None
) -> FileResponse:
    """The file as it was ingested, while it still has the same bytes."""
    stored = await service.document(caller.one_tenant(tenant), doc_id)
    most_bytes = service.settings.max_document_bytes

    def fetch() -> tuple[str, ExitStack]:
        with ExitStack() as stack:
            try:
                path = stack.enter_context(local_copy(stored.source, most_bytes))
                if sha256_of(path) == stored.sha256:
                    return path, stack.pop_all()
            except (OSError, UnreadableDocument) as error:
                raise NotFound("the original file is not where it was") from error
        raise NotFound("the original file has changed since it was indexed")

    path, copies = await service.transfer(fetch)
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=file_name(stored.source),
        background=BackgroundTask(copies.close),
    )


@routes.patch("/{doc_id}")
async def change(
    doc_id: DocumentId,
    changes: DocumentChange,
    service: Chosen,
    caller: Ingester,
    tenant: Tenant | None = None,
) -> DocumentBody:
    """Change title, tags or metadata of a document; nothing is embedded again."""
    given = changes.model_dump(exclude_none=True)
    return DocumentBody.of(await service.change(caller.one_tenant(tenant), doc_id, given))


@routes.delete("/{doc_id}")
async def forget(
    doc_id: DocumentId, service: Chosen, caller: Ingester, tenant: Tenant | None = None
) -> RemovedBody:
    """Remove a document: its rows, its page images, and the file that was uploaded."""
    gone = await service.forget(caller.one_tenant(tenant), doc_id)
    return RemovedBody(doc_id=doc_id, rows=gone.rows, images=gone.images)


@routes.post("/{doc_id}/reindex", status_code=202)
async def reindex(
    doc_id: DocumentId, service: Chosen, caller: Ingester, tenant: Tenant | None = None
) -> JobAccepted:
    """Render, read and embed a document again, in the background."""
    stored = await service.document(caller.one_tenant(tenant), doc_id)
    job_request = JobRequest(
        "reindex",
        stored.tenant,
        (stored.source,),
        collection=service.settings.collection,
    )
    job = await service.submit(job_request)
    return JobAccepted(job_id=job.job_id, status=job.status)


async def _check_replaces(service: Router, tenant: str, doc_id: str, files: int) -> None:
    """Raise InvalidInput or NotFound where a document cannot be replaced by an upload."""
    if files != 1:
        raise InvalidInput("`replaces` names one document: upload one file with it")
    await service.document(tenant, doc_id)


async def _namesakes(service: Router, tenant: str, names: Sequence[str]) -> list[NamesakeBody]:
    """List documents that have the name of a file; none while the store is away.

    Raises NotFound where there is no such collection.
    """
    try:
        documents = await service.namesakes(tenant, names)
    except StoreUnavailable:  # an upload waits for it
        return []
    return [NamesakeBody(name=file_name(each.source), doc_id=each.doc_id) for each in documents]


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise InvalidInput("tags, metadata and tenant are text, not files")
    return value or ""


def _metadata(text: str) -> dict[str, Scalar]:
    if not text:
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"metadata is not JSON: {error}") from error
    if not isinstance(values, dict) or not all(
        isinstance(value, str | int | float | bool) for value in values.values()
    ):
        raise InvalidInput("metadata is a JSON object of texts, numbers and booleans")
    return values
