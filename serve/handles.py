"""Calls from the router to other deployments: a deadline, retries, and our own errors."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from cluster.errors import DeadlineExceeded, ModelUnavailable, Overloaded, QuireError
from models.inputs import MultimodalInput
from serve.embedder import Embedded
from serve.reranker import Scored
from serve.tracing import traceparent

ATTEMPTS = 3
BACKOFF_S = 0.05


class Handle:
    """One deployment, called by name of its method. Only idempotent work goes through here."""

    def __init__(self, name: str, handle: Any) -> None:
        self.name = name
        self._handle = handle

    async def call(self, method: str, *args: Any, timeout_s: float, **more: Any) -> Any:
        """Raises Overloaded, DeadlineExceeded, ModelUnavailable, or what the method raises.

        A replica that dies in the middle is no reason to fail: another one is asked.
        """
        deadline = time.monotonic() + timeout_s
        attempt = 0
        while True:
            attempt += 1
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    remote = getattr(self._handle, method).remote
                    return await remote(*args, **more)
            except TimeoutError as error:
                raise DeadlineExceeded(
                    f"the {self.name} did not answer within {timeout_s:.0f} s: try again"
                ) from error
            except BackPressureError as error:
                raise Overloaded(f"too many requests wait for the {self.name}") from error
            except RayTaskError as error:
                raise _cause(error) from None
            except (RayActorError, DeploymentUnavailableError) as error:
                if attempt == ATTEMPTS:
                    raise ModelUnavailable(f"the {self.name} is not there: try again") from error
                await asyncio.sleep(BACKOFF_S * attempt)


class EmbedderHandle(Handle):
    async def embed(self, items: Sequence[MultimodalInput], timeout_s: float) -> Embedded:
        found: Embedded = await self.call("embed", list(items), timeout_s, timeout_s=timeout_s)
        return found


class RerankerHandle(Handle):
    async def score(
        self, query: MultimodalInput, documents: Sequence[MultimodalInput], timeout_s: float
    ) -> Scored:
        asked = (query, list(documents), timeout_s)
        found: Scored = await self.call(
            "score", *asked, timeout_s=timeout_s, traceparent=traceparent()
        )
        return found


def _cause(error: RayTaskError) -> BaseException:
    """What the method raised: our own errors as they were, anything else as Ray has it."""
    cause = error.cause
    return cause if isinstance(cause, QuireError) else error
