"""One shape of every error: which status an error has, and what its body says."""

from typing import Any, cast

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cluster.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    Overloaded,
    QuireError,
    TooLarge,
    Unauthorized,
    UnreadableDocument,
)
from serve.logs import log
from serve.web.bodies import RETRY_S, ErrorBody, Problem
from serve.web.dependencies import service

# The most specific first; what is not here is for the operator: the service is not usable now.
STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (TooLarge, 413, "too_large"),
    (InvalidInput, 400, "invalid_input"),
    (UnreadableDocument, 400, "invalid_input"),
    (Unauthorized, 401, "unauthorized"),
    (Forbidden, 403, "forbidden"),
    (NotFound, 404, "not_found"),
    (Overloaded, 503, "overloaded"),
    (TimeoutError, 503, "timeout"),
    (QuireError, 503, "unavailable"),
)
HTTP_TYPES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "invalid_input"}
UNAVAILABLE = "the index or a model is not available: try again"


def error_response(error: BaseException) -> JSONResponse:
    """Return the response for an error; one that nobody expected tells nothing of itself."""
    for kind, code, name in STATUS:
        if isinstance(error, kind):
            headers = {}
            if isinstance(error, Overloaded):
                headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
            elif code == 503:
                headers["Retry-After"] = RETRY_S
            elif code == 401:
                headers["WWW-Authenticate"] = "Bearer"
            message = str(error) or "the time for this request is over: try again"
            if name == "unavailable":
                log.warning("unavailable: %s", error)
                # Addresses are for those who run the service.
                message = message if service().keys is None else UNAVAILABLE
            return _body(code, name, message, headers=headers)
    return _body(500, "internal", "something went wrong here; the log has it under the request id")


def _body(
    status: int, kind: str, message: str, param: str | None = None, headers: Any = None
) -> JSONResponse:
    body = ErrorBody(error=Problem(type=kind, message=message, param=param))
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    return error_response(error)


async def answer_validation_error(request: Request, error: Exception) -> JSONResponse:
    first = cast(RequestValidationError, error).errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    return _body(400, "invalid_input", first["msg"], param=".".join(place) or None)


async def answer_http_error(request: Request, error: Exception) -> JSONResponse:
    known = cast(HTTPException, error)
    kind = HTTP_TYPES.get(known.status_code, "invalid_input")
    return _body(known.status_code, kind, str(known.detail), headers=known.headers)
