"""The HTTP application around the router: routes, page, OpenAPI document, middleware, errors."""

from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from serve.web.bodies import ErrorBody
from serve.web.errors import STATUS, answer_error, answer_http_error, answer_validation_error
from serve.web.middleware import PAGE_HEADERS, RequestMiddleware
from serve.web.routes import (
    documents,
    embeddings,
    evidence,
    jobs,
    ocr_quality,
    rerank,
    search,
    status,
)

UI = Path(__file__).parents[1] / "ui"


def build_http() -> FastAPI:
    """Return the HTTP application; built inside a router's replica."""
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
        app.add_exception_handler(kind, answer_error)
    app.add_exception_handler(RequestValidationError, answer_validation_error)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_middleware(RequestMiddleware)
    app.openapi = partial(_document, app)  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, without FastAPI's own errors, which are never sent."""
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
