"""`POST /v1/quality` and a page's own: how well OCR would read pages, and what makes them hard."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from cluster.errors import InvalidInput
from cluster.settings import Settings
from serve.router import parse_page_id
from serve.web.bodies import (
    Body,
    PageQualityBody,
    PredictionBody,
    QualityResponse,
    Tenant,
)
from serve.web.dependencies import (
    FILE_FIELD,
    Chosen,
    Deadline,
    Searcher,
    body_schema,
    drawn,
    first_problem,
    is_form,
)
from serve.web.images import checked_image, image_bytes

routes = APIRouter(prefix="/v1", tags=["quality"])
MAX_IMAGES = 16


class QualityRequest(Body):
    """Pages as pictures, as they came from the scanner: their resolution counts."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"images": ["data:image/png;base64,…"]}]}
    )

    images: list[str] = Field(min_length=1, max_length=MAX_IMAGES)


QUALITY_BODY = body_schema(
    {"images": {"type": "array", "items": FILE_FIELD}}, required=("images",), json=QualityRequest
)
MAP: dict[int | str, dict[str, Any]] = {
    200: {"model": PageQualityBody, "content": {"image/png": {}}}
}


@routes.post("/quality", response_model=QualityResponse, openapi_extra=QUALITY_BODY)
async def quality(
    request: Request, service: Chosen, caller: Searcher, deadline: Deadline
) -> QualityResponse:
    """The errors that OCR would make on each picture, and what to do with it."""
    images = await _images(request, service.settings)
    predictions = await service.quality(images, deadline)
    return QualityResponse(
        engine=predictions[0].engine,
        predictions=[PredictionBody.of(each, service.settings) for each in predictions],
    )


@routes.get("/pages/{page_id}/quality", response_model=PageQualityBody, responses=MAP)
async def page_quality(
    page_id: str,
    service: Chosen,
    caller: Searcher,
    deadline: Deadline,
    tenant: Tenant | None = None,
    format: Literal["json", "png"] = "json",
    width: Annotated[int | None, Query(ge=16, le=8192, description="Of the PNG, in px.")] = None,
) -> Response:
    """Show what makes an indexed page hard to read: regions, or the page with them drawn."""
    doc_id, number = parse_page_id(page_id)
    tenant = caller.one_tenant(tenant)
    page, found, jpeg = await service.page_quality(tenant, doc_id, number, deadline)
    if format == "json":
        body = PageQualityBody.of(page, found, service.settings)
        return Response(body.model_dump_json(), media_type="application/json")
    return await drawn(service, jpeg, found, width)


async def _images(request: Request, settings: Settings) -> list[bytes]:
    """The pictures of a form or of a JSON body. Raises InvalidInput or TooLarge."""
    if is_form(request):
        async with request.form(max_files=MAX_IMAGES, max_fields=4) as form:
            files = [file for file in form.getlist("images") if isinstance(file, UploadFile)]
            if not files:
                raise InvalidInput("there is no file in the field `images`")
            return [checked_image(await file.read(), settings) for file in files]
    try:
        body = QualityRequest.model_validate_json(await request.body())
    except ValidationError as error:
        raise first_problem(error) from error
    return [image_bytes(text, settings) for text in body.images]
