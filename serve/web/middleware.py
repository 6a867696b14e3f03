"""Request middleware: id, deadline, limits and caller of every request, and its log line."""

import math
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException

from cluster.environment import LOOPBACK
from cluster.errors import (
    Forbidden,
    InvalidInput,
    Overloaded,
    QuireError,
    TooLarge,
)
from cluster.metrics import service_metrics
from cluster.settings import Settings
from serve.auth.access import caller_of
from serve.logs import log
from serve.router import Router
from serve.web.dependencies import service
from serve.web.errors import error_response

UPLOAD_PATH = "/v1/documents"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
    "style-src 'self'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
PROBES = ("/healthz", "/readyz")
CLIENT_LEFT = 499  # the status that is noted where nobody waited for one
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEX = re.compile(r"[0-9a-f]{32}(:\d+)?")


class RequestMiddleware:
    """What every request passes first, before its body is read: id, deadline, limits, caller.

    At its end it is counted and logged. An error that no handler caught becomes a response here.
    """

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
        except Exception as error:  # noqa: BLE001 — the one place where every error is caught
            if not isinstance(error, QuireError):
                log.exception("request failed", extra={"quire_request_id": request_id})
            if not began:
                await error_response(error)(scope, receive, sending)
        finally:
            self._ongoing[kind] -= 1
            _note(scope, request_id, status, time.perf_counter() - started)

    def _check(self, request: Request, router: Router, kind: str) -> int:
        """Return the most bytes that the body may have; nothing of it is read before.

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
    """Refuse other sites' pages where no key is asked for.

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
    """Return the seconds that a request may take: its own wish, up to the service's limit."""
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
    """Wrap `receive` so that a body is counted while it comes: not every one tells its length."""
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
    """Return a span's name: few, whatever ids the path holds."""
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
