"""The reranker's deployment: encodes on host threads, scores in batches of waiting requests."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cluster.deployments import DeploymentSpec
from cluster.settings import Settings
from models.inputs import MultimodalInput
from models.qwen3_vl.rerank_prompts import EncodedGroup
from serve.deployments.batcher import TokenBatcher
from serve.deployments.models import ServedModels
from serve.deployments.start import ModelDeployment, at_low_priority
from serve.tracing import traced

if TYPE_CHECKING:
    from models.qwen3_vl.reranker import Qwen3VLReranker

HOST_THREADS = 2


@dataclass(frozen=True)
class Scored:
    """scores float32[documents] in 0 … 1; tokens computed for them."""

    scores: np.ndarray
    tokens: int


def _load(models: ServedModels) -> "Qwen3VLReranker":
    """Return the reranker, warm."""
    from models.qwen3_vl.reranker import Qwen3VLReranker

    reranker = Qwen3VLReranker(models.reranker)
    reranker.warm_up()
    return reranker


class RerankerDeployment(ModelDeployment):
    """One replica; every method is safe to call at the same time."""

    def __init__(self, spec: DeploymentSpec, settings: Settings, models: ServedModels) -> None:
        super().__init__(spec, settings)
        scaling = settings.reranker_replicas
        self._reranker = at_low_priority(lambda: _load(models))
        self._reranker.budget.on_refusal = self._count_out_of_memory
        self._host = ThreadPoolExecutor(HOST_THREADS, thread_name_prefix="encode")
        self._batcher = TokenBatcher[EncodedGroup, np.ndarray](
            spec.name,
            self._reranker.start,
            batch_tokens=scaling.batch_tokens,
            max_wait_s=scaling.max_wait_s,
        )

    @traced("rerank")
    async def score(
        self,
        query: MultimodalInput,
        documents: Sequence[MultimodalInput],
        timeout_s: float,
    ) -> Scored:
        """Raises InvalidInput, Overloaded, DeadlineExceeded or OutOfMemory."""
        from models.qwen3_vl.reranker import gather

        deadline = time.monotonic() + timeout_s
        self._batcher.admit(timeout_s)  # before the host works for nothing
        loop = asyncio.get_running_loop()
        parts = self._reranker.encode_parts(query, documents)
        groups: list[EncodedGroup] = []
        scored: list[asyncio.Task[list[np.ndarray]]] = []
        try:
            # The device begins with the first part while the host encodes the next.
            while part := await loop.run_in_executor(self._host, next, parts, None):
                groups += part
                left_s = deadline - time.monotonic()
                submitted = self._batcher.submit(part, left_s, is_admitted=bool(scored))
                scored.append(loop.create_task(submitted))
            scores = [array for part in await asyncio.gather(*scored) for array in part]
        finally:
            for task in scored:
                task.cancel()  # nothing where it is done
        return Scored(gather(groups, scores), sum(group.tokens for group in groups))
