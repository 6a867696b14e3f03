"""What routes need of the replica they run in: the router, the caller, the deadline.

Dependencies are coroutines although they wait for nothing: FastAPI gives each plain function a
thread, and four of those cost a search a millisecond.
"""

from typing import Annotated, cast

from fastapi import Depends, Request
from ray import serve

from serve.access import Caller
from serve.router import Router


def service() -> Router:
    """The router of this replica."""
    return cast(Router, serve.get_replica_context().servable_object)


async def serving() -> Router:
    """The same as a dependency."""
    return service()


async def any_caller(request: Request) -> Caller:
    """Whoever asks, as the edge has found out before anything of the body was read."""
    return cast(Caller, request.state.caller)


async def searcher(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Who may search. Raises Forbidden."""
    caller.may("search")
    return caller


async def ingester(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Who may add, index again and remove documents. Raises Forbidden."""
    caller.may("ingest")
    return caller


async def admin(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Who may look behind the scenes. Raises Forbidden."""
    caller.may("admin")
    return caller


async def deadline_of(request: Request) -> float:
    """When the request's time is over (time.monotonic)."""
    return float(request.state.deadline)


Serving = Annotated[Router, Depends(serving)]
Searcher = Annotated[Caller, Depends(searcher)]
Ingester = Annotated[Caller, Depends(ingester)]
Admin = Annotated[Caller, Depends(admin)]
Deadline = Annotated[float, Depends(deadline_of)]
