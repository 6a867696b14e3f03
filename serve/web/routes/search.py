"""`POST /v1/search` and the pages that it finds."""

import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from cluster.core import Hit
from cluster.core import Query as SearchQuery
from cluster.errors import InvalidInput
from cluster.settings import Settings
from cluster.store.filter_language import parse_filter
from cluster.text.snippets import matches, snippet
from serve.router import parse_page_id
from serve.web.bodies import (
    MAX_URL_CHARS,
    HitBody,
    PageBody,
    SearchRequest,
    SearchResponse,
    Tenant,
)
from serve.web.dependencies import (
    FILE_FIELD,
    Chosen,
    Deadline,
    Searcher,
    body_schema,
    first_problem,
    is_form,
)
from serve.web.images import checked_image, image_bytes, narrowed

routes = APIRouter(tags=["search"])
SNIPPET_CHARS = 280
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}
SEARCH_BODY = body_schema(
    {
        "request": {"type": "string", "description": "The JSON body as text."},
        "image": FILE_FIELD,
    },
    json=SearchRequest,
)


@routes.post("/v1/search", response_model=SearchResponse, openapi_extra=SEARCH_BODY)
async def search(
    request: Request, service: Chosen, caller: Searcher, deadline: Deadline
) -> Response:
    """Find pages by text, by screenshot, or by both."""
    asked, image = await _asked(request, service.settings)
    settings = service.settings.model_copy(update=asked.choices())
    tenant = caller.tenant_for(asked.filters.tenant)
    wanted = asked.filters.to_filter(tenant, parse_filter(asked.filter))
    query = SearchQuery(text=asked.text, image=image, filter=wanted)
    result = await service.search(query, settings, deadline)
    took_ms = {stage: round(1000 * seconds, 1) for stage, seconds in result.seconds.items()}
    body = SearchResponse(
        request_id=request.state.request_id,
        mode=settings.mode,
        rerank=result.rerank,
        hits=[
            _hit(rank, hit, asked.text, settings) for rank, hit in enumerate(result.hits, start=1)
        ],
        took_ms={**took_ms, "total": round(sum(took_ms.values()), 1)},
    )
    # As bytes, or FastAPI would check it all once more.
    return Response(body.model_dump_json(), media_type="application/json")


@routes.get("/v1/pages/{page_id}")
async def page(
    page_id: str,
    service: Chosen,
    caller: Searcher,
    tenant: Tenant | None = None,
    q: Annotated[
        str, Query(max_length=MAX_URL_CHARS, description="Words to mark in the text.")
    ] = "",
) -> PageBody:
    """A page's text, its place in its document, and its neighbours."""
    doc_id, number = parse_page_id(page_id)
    found, pages = await service.page(caller.one_tenant(tenant), doc_id, number)
    return PageBody.of(found, pages, matches(found.text, q), service.settings)


@routes.get("/v1/pages/{page_id}/image", response_class=Response, responses=JPEG)
async def page_image(
    request: Request,
    page_id: str,
    service: Chosen,
    caller: Searcher,
    tenant: Tenant | None = None,
    width: Annotated[int | None, Query(ge=16, le=8192, description="At most so many px.")] = None,
) -> Response:
    """A page's image as JPEG, at most `width` px wide."""
    doc_id, number = parse_page_id(page_id)
    jpeg = await service.page_image(caller.one_tenant(tenant), doc_id, number)
    tag = f'"{hashlib.sha256(jpeg).hexdigest()[:16]}-{width or 0}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    if width is not None:
        jpeg = await service.in_background(narrowed, jpeg, width)
    return Response(jpeg, media_type="image/jpeg", headers=headers)


async def _asked(request: Request, settings: Settings) -> tuple[SearchRequest, bytes | None]:
    """The body, JSON or a form with an image file, and the image it brings."""
    if is_form(request):
        async with request.form(max_files=1, max_fields=4) as form:
            body = _parse(form.get("request") or "{}")
            file = form.get("image")
            if isinstance(file, UploadFile):
                if body.image is not None:
                    raise InvalidInput("give the image once: as the file or in the request")
                return body, checked_image(await file.read(), settings)
    else:
        body = _parse(await request.body())
    return body, None if body.image is None else image_bytes(body.image, settings)


def _parse(body: Any) -> SearchRequest:
    try:
        return SearchRequest.model_validate(json.loads(body))
    except ValidationError as error:
        raise first_problem(error) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"the request is not JSON: {error}") from error


def _hit(rank: int, hit: Hit, text: str, settings: Settings) -> HitBody:
    shown = snippet(hit.text, text, chars=SNIPPET_CHARS)
    return HitBody.of(rank, hit, shown, matches(shown, text), settings)
