"""Jobs: how far they are, once or as server-sent events."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import StreamingResponse

from cluster.errors import QuireError
from jobs.journal import Job
from serve.auth.access import Caller
from serve.router import Router
from serve.web.bodies import JobBody, JobList, Tenant, file_name
from serve.web.dependencies import Ingester, Searcher, Serving

routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])
JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
WAIT_S = 10.0  # then the connection shows that it lives
EVENT_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


@routes.get("")
async def jobs(
    service: Serving,
    caller: Searcher,
    tenant: Tenant | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> JobList:
    """Jobs, the newest first."""
    listed, total = await service.jobs(caller.tenant_for(tenant), caller.collections, limit, offset)
    return JobList(jobs=[body_of(each) for each in listed], total=total)


@routes.delete("/{job_id}", status_code=202)
async def cancel(job_id: JobId, service: Serving, caller: Ingester) -> JobBody:
    """Stop a job that waits or runs; what it has indexed stays. One that is over stays as it is."""
    return body_of(await service.cancel(caller.tenant, caller.collections, job_id))


@routes.get("/{job_id}")
async def job(job_id: JobId, service: Serving, caller: Searcher) -> JobBody:
    """A job as it stands."""
    return body_of(await service.job(caller.tenant, caller.collections, job_id))


@routes.get("/{job_id}/events", response_class=StreamingResponse, responses=EVENT_STREAM)
async def events(
    request: Request,
    job_id: JobId,
    service: Serving,
    caller: Searcher,
    last_event_id: Annotated[int, Header(ge=-1, le=2**53)] = -1,
) -> StreamingResponse:
    """Every change of a job until it is over; goes on behind `Last-Event-ID`."""
    await service.job(
        caller.tenant, caller.collections, job_id
    )  # not found is an answer, not an event
    return StreamingResponse(
        _events(request, service, caller, job_id, last_event_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _events(
    request: Request, service: Router, caller: Caller, job_id: str, seen: int
) -> AsyncIterator[str]:
    while not await request.is_disconnected():
        try:
            job = await service.next_version(
                caller.tenant, caller.collections, job_id, seen, WAIT_S
            )
        except QuireError:
            return  # the client asks again, with the last id that it has
        if job.version > seen or job.is_over:
            seen = job.version
            event = job.status if job.is_over else "progress"
            yield _sse(event, seen, body_of(job).model_dump(mode="json"))
        else:
            yield ": still here\n\n"
        if job.is_over:
            return


def body_of(job: Job) -> JobBody:
    """A job as its callers see it."""
    return JobBody(
        job_id=job.job_id,
        kind=job.request.kind,
        status=job.status,
        tenant=job.request.tenant,
        files=[file_name(path) for path in job.request.paths],
        created_at=datetime.fromtimestamp(job.created, UTC),
        error=job.error or None,
        progress=job.progress,
        documents=list(job.documents),
    )


def _sse(event: str, number: int, data: Any) -> str:
    """Format one server-sent event."""
    return f"event: {event}\nid: {number}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
