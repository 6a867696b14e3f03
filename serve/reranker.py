"""The reranker's deployment: encodes on host threads, scores in batches of waiting requests."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cluster.settings import ModelScaling
from models.inputs import MultimodalInput
from models.options import RerankerOptions
from models.pairs import EncodedGroup
from serve.batcher import TokenBatcher
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
        from models.reranker import Qwen3VLReranker
        from models.threads import use_threads

        use_threads(scaling.threads)
        log_as_service()
        self._trace = Trace("quire-reranker", otlp)
        self._reranker = Qwen3VLReranker(options)
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
        """Raises InvalidInput, Overloaded or DeadlineExceeded."""
        from models.reranker import gather

        deadline = time.monotonic() + timeout_s
        self._batcher.admit(timeout_s)  # before the host works for nothing
        loop = asyncio.get_running_loop()
        groups = await loop.run_in_executor(self._host, self._reranker.encode, query, documents)
        scores = await self._batcher.submit(groups, deadline - time.monotonic())
        return Scored(gather(groups, scores), sum(group.tokens for group in groups))
