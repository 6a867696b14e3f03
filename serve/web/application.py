"""HTTP around the router: the application, its edge (limits, ids, logs), one shape of errors."""

import math
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
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
from cluster.metrics import service_metrics
from cluster.settings import LOOPBACK, Settings
from serve.auth.access import caller_of
from serve.logs import log
from serve.router import Router
from serve.web.bodies import RETRY_S, ErrorBody, Problem
from serve.web.dependencies import service
from serve.web.routes import documents as documents
from serve.web.routes import embeddings as embeddings
from serve.web.routes import evidence as evidence
from serve.web.routes import jobs as jobs
from serve.web.routes import ocr_quality as ocr_quality
from serve.web.routes import rerank as rerank
from serve.web.routes import search as search
from serve.web.routes import status as status

UI = Path(__file__).parents[1] / "ui"
UPLOAD_PATH = "/v1/documents"
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
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
    "style-src 'self'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
UNAVAILABLE = "the index or a model is not available: try again"
PROBES = ("/healthz", "/readyz")
CLIENT_LEFT = 499  # the status that is noted where nobody waited for one
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEX = re.compile(r"[0-9a-f]{32}(:\d+)?")


def build_http() -> FastAPI:
    """The HTTP application; built inside a router's replica."""
    app = FastAPI(
        title="Quire",
        summary="Search large collections of PDFs by what is on the page.",
        version="1",
        docs_url=None,
        redoc_url=None,
        responses={code: {"model": ErrorBody} for code in (400, 401, 403, 404, 413, 503)},
        generate_unique_id_function=lambda route: route.name,
    )
    for api in (
        search,
        evidence,
        ocr_quality,
        embeddings,
        rerank,
        documents,
        jobs,
        status,
    ):
        app.include_router(api.routes)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(UI / "index.html", headers=PAGE_HEADERS)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Quire's routes",
            swagger_js_url="/docs/ui/swagger-ui-bundle.js",
            swagger_css_url="/docs/ui/swagger-ui.css",
            swagger_favicon_url="/ui/icon.svg",
        )

    app.mount("/ui", StaticFiles(directory=UI), name="ui")
    app.mount(
        "/docs/ui", StaticFiles(packages=[("fastapi_offline", "static")]), name="docs-ui"
    )  # no CDN
    for kind, _, _ in STATUS:
        app.add_exception_handler(kind, _problem)
    app.add_exception_handler(RequestValidationError, _wrong_request)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_middleware(Edge)
    app.openapi = partial(_document, app)  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, without FastAPI's own errors, which are never sent."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            routes=app.routes,
        )
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        app.openapi_schema = document
    return app.openapi_schema


class Edge:
    """What every request passes first: id, limits, who may knock; and what is noted at its end."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app
        self._ongoing = {"requests": 0, "streams": 0}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        router = service()
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.state.request_id = request_id
        request.state.deadline = time.monotonic() + _timeout_s(request, router.settings)
        started = time.perf_counter()
        status = CLIENT_LEFT
        began = False

        async def sending(message: Any) -> None:
            nonlocal status, began
            if message["type"] == "http.response.start":
                status, began = message["status"], True
                message["headers"] = [
                    *message["headers"],
                    *_page_headers(scope["path"], message["headers"]),
                ]
            await send(message)

        kind = "streams" if scope["path"].endswith("/events") else "requests"
        self._ongoing[kind] += 1
        try:
            limit = self._check(request, router, kind)
            with router.trace.span(_named(scope), request.headers.get("traceparent", "")):
                await self._app(scope, _counting(receive, limit), sending)
        except Exception as error:  # noqa: BLE001 — the router's edge: the one place for it
            if not isinstance(error, QuireError):
                log.exception("request failed", extra={"quire_request_id": request_id})
            if not began:
                await _answer(error)(scope, receive, sending)
        finally:
            self._ongoing[kind] -= 1
            _note(scope, request_id, status, time.perf_counter() - started)

    def _check(self, request: Request, router: Router, kind: str) -> int:
        """The most bytes that the body may have; nothing of it is read before.

        Raises Overloaded, TooLarge, InvalidInput, Forbidden or Unauthorized.
        """
        path = request.url.path
        if path in PROBES:  # they tell whether the service lives, also when it is busy
            return 0
        if self._ongoing[kind] > router.settings.router.max_ongoing_requests:
            raise Overloaded("too many requests at once: try again")
        if router.keys is None:
            _check_origin(request, router.is_local)
        if path.startswith("/v1/") or path in ("/v2/embed", "/v2/rerank", "/metrics"):
            request.state.caller = caller_of(request, router.keys)
        limit = _body_limit(request, router.settings)
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise InvalidInput("the Content-Length is no number")
        if int(length) > limit:
            raise TooLarge(f"the body of this request may have {limit:,} bytes")
        return limit


def _check_origin(request: Request, is_local: bool) -> None:
    """Where no key is asked for, no other site's page may speak through the browser.

    Raises Forbidden.
    """
    host = request.headers.get("host", "")
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    if is_local and name.strip("[]") not in LOOPBACK:
        raise Forbidden(f"this service answers on loopback only, not as {name[:80]!r}")
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise Forbidden("requests of other origins are not answered")


def _timeout_s(request: Request, settings: Settings) -> float:
    """How long a request may take: its own wish where it is shorter than the service's limit."""
    try:
        wish = float(request.headers.get("x-request-timeout-s", "inf"))
    except ValueError:
        wish = math.nan
    limit = settings.request_timeout_s
    return limit if math.isnan(wish) else min(max(wish, 0.0), limit)


def _body_limit(request: Request, settings: Settings) -> int:
    is_upload = request.method == "POST" and request.url.path == UPLOAD_PATH
    return settings.max_upload_bytes if is_upload else settings.max_body_bytes


def _counting(receive: Any, limit: int) -> Any:
    """A body without a length is counted while it comes."""
    seen = 0

    async def counted() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            # FastAPI lets only this kind through from the reading of a body.
            raise HTTPException(413, f"the body of this request may have {limit:,} bytes")
        return message

    return counted


def _named(scope: Any) -> str:
    """A span's name: few, whatever ids the path holds."""
    return f"{scope['method']} {_HEX.sub('{id}', scope['path'])}"[:80]


def _page_headers(path: str, present: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    if not path.startswith("/ui/"):
        return [(b"x-content-type-options", b"nosniff")] if path != "/" else []
    names = {name.lower() for name, _ in present}
    wanted = {name.lower().encode(): value.encode() for name, value in PAGE_HEADERS.items()}
    return [pair for pair in wanted.items() if pair[0] not in names]


def _note(scope: Any, request_id: str, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "other")
    method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD") else "other"
    service_metrics().requests.inc(1, {"route": route, "method": method, "status": str(status)})
    service_metrics().request_seconds.observe(seconds, {"route": route})
    facts = {
        "quire_request_id": request_id,
        "method": method,
        "path": scope["path"],
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "key_id": getattr(scope["state"].get("caller"), "key_id", ""),
    }
    log.info("request", extra=facts)


def _answer(error: BaseException) -> JSONResponse:
    """The response for an error; one that nobody expected tells nothing of itself."""
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


async def _problem(request: Request, error: Exception) -> JSONResponse:
    return _answer(error)


async def _wrong_request(request: Request, error: Exception) -> JSONResponse:
    first = cast(RequestValidationError, error).errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    return _body(400, "invalid_input", first["msg"], param=".".join(place) or None)


async def _http_problem(request: Request, error: Exception) -> JSONResponse:
    known = cast(HTTPException, error)
    kind = HTTP_TYPES.get(known.status_code, "invalid_input")
    return _body(known.status_code, kind, str(known.detail), headers=known.headers)
