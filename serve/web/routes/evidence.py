"""`GET /v1/pages/{page_id}/evidence`: why a page was found, and where on it."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from models.evidence.finder import MethodAsked
from serve.router import parse_page_id
from serve.web.bodies import MAX_URL_CHARS, EvidenceBody, Tenant
from serve.web.dependencies import Chosen, Deadline, Searcher, drawn

routes = APIRouter(tags=["search"])
EVIDENCE: dict[int | str, dict[str, Any]] = {
    200: {"model": EvidenceBody, "content": {"image/png": {}}}
}


@routes.get("/v1/pages/{page_id}/evidence", response_model=EvidenceBody, responses=EVIDENCE)
async def evidence(
    page_id: str,
    service: Chosen,
    caller: Searcher,
    deadline: Deadline,
    q: Annotated[
        str, Query(min_length=1, max_length=MAX_URL_CHARS, description="What was asked for.")
    ],
    tenant: Tenant | None = None,
    method: Annotated[
        MethodAsked, Query(description="auto: matched words, else a map of similarity.")
    ] = "auto",
    format: Literal["json", "png"] = "json",
    width: Annotated[int | None, Query(ge=16, le=8192, description="Of the PNG, in px.")] = None,
) -> Response:
    """Boxes and scores in shares of the page's sides, or the page with them drawn over it."""
    doc_id, number = parse_page_id(page_id)
    found, jpeg = await service.evidence(
        caller.one_tenant(tenant), doc_id, number, method, q, deadline
    )
    if format == "json":
        body = EvidenceBody.of(page_id, q, found)
        return Response(body.model_dump_json(), media_type="application/json")
    return await drawn(service, jpeg, found, width)
