"""The embedder's deployment: encodes on host threads, embeds in batches of waiting requests."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cluster.deployments import DeploymentSpec
from cluster.settings import Settings
from models.inputs import EncodedInput, MultimodalInput
from serve.deployments.batcher import TokenBatcher
from serve.deployments.models import ServedModels
from serve.deployments.start import ModelDeployment, at_low_priority
from serve.tracing import traced

if TYPE_CHECKING:
    from models.qwen3_vl.embedder import Qwen3VLEmbedder

HOST_THREADS = 2
SHORT_CHARS = 500  # encoded in less time than it takes to wake a thread


@dataclass(frozen=True)
class Embedded:
    """vectors float32[inputs, dimension], unit length; tokens of each input."""

    vectors: np.ndarray
    tokens: tuple[int, ...]


def _load(models: ServedModels, batch_tokens: int) -> "Qwen3VLEmbedder":
    """Return the embedder, warm."""
    from models.qwen3_vl.embedder import Qwen3VLEmbedder

    embedder = Qwen3VLEmbedder(models.embedder)
    budget = embedder.budget
    budget.tokens = min(budget.tokens, batch_tokens)  # half of it must be less than now
    embedder.warm_up()
    return embedder


class EmbedderDeployment(ModelDeployment):
    """One replica; every method is safe to call at the same time."""

    def __init__(self, spec: DeploymentSpec, settings: Settings, models: ServedModels) -> None:
        super().__init__(spec, settings)
        scaling = settings.embedder_replicas
        self._embedder = at_low_priority(lambda: _load(models, scaling.batch_tokens))
        self._embedder.budget.on_refusal = self._count_out_of_memory
        self._host = ThreadPoolExecutor(HOST_THREADS, thread_name_prefix="encode")
        self._batcher = TokenBatcher[EncodedInput, np.ndarray](
            spec.name,
            self._embedder.start,
            batch_tokens=scaling.batch_tokens,
            max_wait_s=scaling.max_wait_s,
        )

    @traced("embed")
    async def embed(self, items: Sequence[MultimodalInput], timeout_s: float) -> Embedded:
        """Raises InvalidInput, Overloaded, DeadlineExceeded or OutOfMemory."""
        deadline = time.monotonic() + timeout_s
        self._batcher.admit(timeout_s)  # before the host works for nothing
        encoded = await self._encode(items)
        vectors = await self._batcher.submit(encoded, deadline - time.monotonic())
        empty = np.empty((0, self._embedder.fingerprint.dimension), np.float32)
        return Embedded(
            np.stack(vectors) if vectors else empty, tuple(item.tokens for item in encoded)
        )

    @traced("similarities")
    async def similarities(
        self, question: MultimodalInput, page: bytes, timeout_s: float
    ) -> np.ndarray:
        """Compare a question with each part of a page → float32[rows, columns].

        Raises InvalidInput, Overloaded, DeadlineExceeded or OutOfMemory.
        """
        deadline = time.monotonic() + timeout_s
        self._batcher.admit(timeout_s)
        encoded = await self._encode([question, MultimodalInput(images=(page,))])
        return await self._batcher.in_turn(
            deadline - time.monotonic(), self._embedder.similarities_encoded, *encoded
        )

    async def _encode(self, items: Sequence[MultimodalInput]) -> Sequence[EncodedInput]:
        if len(items) == 1 and not items[0].images and len(items[0].text) <= SHORT_CHARS:
            return [self._embedder.encode(items[0])]
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(self._host, self._embedder.encode, item) for item in items)
        )
