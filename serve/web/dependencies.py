"""What routes share: the router, the caller, the deadline, and how bodies are read and pages drawn.

Dependencies are coroutines although they wait for nothing: FastAPI gives each plain function a
thread, and four of those cost a search a millisecond.
"""

from typing import Annotated, Any, cast

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, ValidationError
from ray import serve

from cluster.errors import InvalidInput
from cluster.settings import COLLECTION_PATTERN
from models.evidence.overlay import overlay
from models.evidence.regions import Evidence
from serve.auth.access import Caller
from serve.router import Router
from serve.web.images import narrowed

FILE_FIELD = {"type": "string", "format": "binary"}  # of a form's schema


def service() -> Router:
    """Return the router of this replica."""
    return cast(Router, serve.get_replica_context().servable_object)


async def serving() -> Router:
    """Return this replica's router, for routes that depend on it."""
    return service()


async def any_caller(request: Request) -> Caller:
    """Whoever asks, as the edge has found out before anything of the body was read."""
    return cast(Caller, request.state.caller)


async def chosen(
    caller: Annotated[Caller, Depends(any_caller)],
    collection: Annotated[
        str | None,
        Query(
            pattern=COLLECTION_PATTERN,
            description="A collection of the same store, of the same model, that the key is for; "
            "by default the service's own.",
        ),
    ] = None,
) -> Router:
    """Return this replica's router at the collection that a request names. Raises Forbidden."""
    router = service()
    if collection is None or collection == router.settings.collection:
        return router
    caller.may_use(collection)
    return router.at(collection)


async def searcher(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Require a caller who may search. Raises Forbidden."""
    caller.may("search")
    return caller


async def ingester(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Require a caller who may add, index again and remove documents. Raises Forbidden."""
    caller.may("ingest")
    return caller


async def admin(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Require a caller who may see metrics and all tenants' jobs. Raises Forbidden."""
    caller.may("admin")
    return caller


async def deadline_of(request: Request) -> float:
    """When the request's time is over (time.monotonic)."""
    return float(request.state.deadline)


def is_form(request: Request) -> bool:
    """True where the body is a form that may have files."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "multipart/form-data"


def body_schema(
    form: dict[str, Any], *, required: tuple[str, ...] = (), json: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Describe, for the OpenAPI document, a body that a route reads itself: a form, or also JSON.

    `form`: a JSON schema of each field of the form, by name.
    """
    fields: dict[str, Any] = {"type": "object", "properties": form}
    if required:
        fields["required"] = list(required)
    content = {"application/json": {"schema": json.model_json_schema()}} if json else {}
    content["multipart/form-data"] = {"schema": fields}
    return {"requestBody": {"required": True, "content": content}}


def first_problem(error: ValidationError) -> InvalidInput:
    """Say what is wrong with a body, and where, in a line."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return InvalidInput(f"{place or 'request'}: {first['msg']}")


async def drawn(router: Router, jpeg: bytes, found: Evidence, width: int | None) -> Response:
    """Return a page, at most `width` px wide, with what was found drawn over it."""
    if width is not None:
        jpeg = await router.in_background(narrowed, jpeg, width)
    png = await router.in_background(overlay, jpeg, found)
    return Response(png, media_type="image/png", headers={"Cache-Control": "private, no-cache"})


Serving = Annotated[Router, Depends(serving)]
Chosen = Annotated[Router, Depends(chosen)]
Searcher = Annotated[Caller, Depends(searcher)]
Ingester = Annotated[Caller, Depends(ingester)]
Admin = Annotated[Caller, Depends(admin)]
Deadline = Annotated[float, Depends(deadline_of)]
