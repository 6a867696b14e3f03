"""The reranker's deployment: encodes on host threads, scores in batches of waiting requests."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from cluster.metrics import count_out_of_memory
from cluster.settings import ModelScaling
from models.inputs import MultimodalInput
from models.options import RerankerOptions
from models.qwen3_vl.rerank_prompts import EncodedGroup
from serve.deployments.batcher import TokenBatcher
from serve.logs import log_as_service
from serve.tracing import Trace, traced

HOST_THREADS = 2


@dataclass(frozen=True)
class Scored:
    """scores float32[documents] in 0 … 1; tokens computed for them."""

    scores: np.ndarray
    tokens: int


class RerankerDeployment:
    """One replica; every method is safe to call at the same time."""

    def __init__(self, options: RerankerOptions, scaling: ModelScaling, otlp: str) -> None:
        from models.engine.device import limit_gpu_memory, use_threads
        from models.qwen3_vl.reranker import Qwen3VLReranker

        use_threads(scaling.threads)
        limit_gpu_memory(scaling.memory_fraction)
        log_as_service()
        self._trace = Trace("quire-reranker", otlp)
        self._reranker = Qwen3VLReranker(options)
        self._reranker.budget.on_refusal = partial(count_out_of_memory, "reranker")
        self._reranker.score(MultimodalInput(text="warm"), [MultimodalInput(text="up")])
        self._host = ThreadPoolExecutor(HOST_THREADS, thread_name_prefix="encode")
        self._batcher = TokenBatcher[EncodedGroup, np.ndarray](
            "reranker",
            self._reranker.score_encoded,
            batch_tokens=scaling.batch_tokens,
            max_wait_s=scaling.max_wait_s,
        )

    async def ready(self) -> bool:
        """Answered once the model is loaded."""
        return True

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
        groups = await loop.run_in_executor(self._host, self._reranker.encode, query, documents)
        scores = await self._batcher.submit(groups, deadline - time.monotonic())
        return Scored(gather(groups, scores), sum(group.tokens for group in groups))
