"""Models, health, readiness and metrics."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse

from cluster.metrics import scrape
from models.registry import registry
from serve.web.bodies import RETRY_S, ModelBody, ModelList, Readiness
from serve.web.dependencies import Admin, Searcher, Serving

routes = APIRouter(tags=["status"])


@routes.get("/v1/models")
async def models(service: Serving, caller: Searcher) -> ModelList:
    """The models that Quire knows; `served` are those of this service."""
    served = service.models
    mine = (served.embedder_spec, served.reranker_spec, served.late_interaction_spec)
    known = {spec.name: spec for spec in (*mine, *registry.specs.values())}
    return ModelList(
        data=[
            ModelBody(
                id=spec.name,
                kind=spec.kind,
                dimension=spec.dimension,
                max_tokens=spec.max_tokens,
                served=spec in mine,
            )
            for spec in known.values()
        ]
    )


@routes.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process lives."""
    return {"status": "alive"}


@routes.get("/readyz", responses={200: {"model": Readiness}, 503: {"model": Readiness}})
async def readyz(service: Serving) -> JSONResponse:
    """Models loaded, store reachable; 503 says which is not."""
    checks = await service.readiness()
    if service.keys is not None:  # what is wrong is for those who run the service
        checks = {part: state if state == "ok" else "unavailable" for part, state in checks.items()}
    ready = all(state == "ok" for state in checks.values())
    body = Readiness(status="ready" if ready else "not ready", checks=checks)
    headers = {} if ready else {"Retry-After": RETRY_S}
    return JSONResponse(body.model_dump(), status_code=200 if ready else 503, headers=headers)


@routes.get("/metrics", response_class=PlainTextResponse)
async def metrics(caller: Admin) -> PlainTextResponse:
    """Prometheus metrics of the whole cluster."""
    return PlainTextResponse(await scrape(), media_type="text/plain; version=0.0.4")
