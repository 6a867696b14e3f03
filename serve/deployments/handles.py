"""Calls from the router to other deployments: a deadline, retries, and our own errors."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from grpc.aio import AioRpcError
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)

from cluster.errors import DeadlineExceeded, ModelUnavailable, Overloaded, QuireError
from cluster.pages.files import PageKey
from models.evidence.regions import Evidence
from models.inputs import MultimodalInput
from models.ocr_quality.predictor import Attribution, QualityPrediction
from serve.deployments.embedder import Embedded
from serve.deployments.reranker import Scored
from serve.tracing import traceparent

ATTEMPTS = 6
BACKOFF_S = 0.05  # before the second attempt; then twice as long each time, 1.5 s in all
# A replica that died, was killed, or stopped with the request in its hands.
GONE = (
    RayActorError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
    AioRpcError,
)


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
        gone: BaseException | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(BACKOFF_S * 2 ** (attempt - 1))
            try:
                return await self._try(method, args, more, deadline)
            except GONE as error:
                gone = error
            except asyncio.CancelledError as error:
                # A replica that stops cancels what it works on, and its answer says so; unlike our
                # own cancelling, which must go on.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                gone = error
        raise ModelUnavailable(f"the {self.name} is not there: try again") from gone

    async def _try(self, method: str, args: Any, more: Any, deadline: float) -> Any:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await getattr(self._handle, method).remote(*args, **more)
        except TimeoutError as error:
            raise DeadlineExceeded(f"the {self.name} did not answer in time: try again") from error
        except BackPressureError as error:
            raise Overloaded(f"too many requests wait for the {self.name}") from error
        except RayTaskError as error:
            # Our own errors as they were; over gRPC they arrive like that.
            raise error.cause if isinstance(error.cause, QuireError) else error from None


class ModelHandle(Handle):
    """A model's deployment, whose methods take the seconds that are left as their last argument."""

    async def ask(self, method: str, *args: Any, timeout_s: float) -> Any:
        parent = traceparent()
        return await self.call(method, *args, timeout_s, timeout_s=timeout_s, traceparent=parent)


class EmbedderHandle(ModelHandle):
    async def embed(self, items: Sequence[MultimodalInput], timeout_s: float) -> Embedded:
        embedded: Embedded = await self.ask("embed", list(items), timeout_s=timeout_s)
        return embedded

    async def similarities(
        self, question: MultimodalInput, page: bytes, timeout_s: float
    ) -> np.ndarray:
        cosines: np.ndarray = await self.ask("similarities", question, page, timeout_s=timeout_s)
        return cosines


class RerankerHandle(ModelHandle):
    async def score(
        self, query: MultimodalInput, documents: Sequence[MultimodalInput], timeout_s: float
    ) -> Scored:
        scored: Scored = await self.ask("score", query, list(documents), timeout_s=timeout_s)
        return scored


class LateInteractionHandle(ModelHandle):
    async def match(
        self, question: MultimodalInput, pages: Sequence[PageKey], collection: str, timeout_s: float
    ) -> np.ndarray:
        scores: np.ndarray = await self.ask(
            "match", question, list(pages), collection, timeout_s=timeout_s
        )
        return scores

    async def evidence(
        self, text: str, page: PageKey, collection: str, timeout_s: float
    ) -> Evidence:
        evidence: Evidence = await self.ask("evidence", text, page, collection, timeout_s=timeout_s)
        return evidence


class QualityHandle(ModelHandle):
    async def predict(self, images: Sequence[bytes], timeout_s: float) -> list[QualityPrediction]:
        predictions: list[QualityPrediction] = await self.ask(
            "predict", list(images), timeout_s=timeout_s
        )
        return predictions

    async def attribute(self, image: bytes, timeout_s: float) -> Attribution:
        attribution: Attribution = await self.ask("attribute", image, timeout_s=timeout_s)
        return attribution
