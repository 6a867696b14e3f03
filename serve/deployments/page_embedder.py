"""The service's own embedder as an ingest uses one: a few pages need no second model."""

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np

from cluster.errors import DeadlineExceeded, Overloaded
from models.inputs import MultimodalInput
from models.protocols import Budget
from serve.deployments.handles import EmbedderHandle

CALL_TIMEOUT_S = 60.0
PATIENCE_S = 300.0  # with an embedder that is busy with searches, or asleep
PAUSE_S = 0.5


class _OwnBudget:
    """The replicas keep their budgets to themselves."""

    def __init__(self) -> None:
        self.model, self.tokens, self.halved = "", 0, False
        self.on_refusal: Callable[[], None] = lambda: None


class ServedPageEmbedder:
    """Embeds inputs by calls of the embedder's deployment; for threads beside the event loop."""

    def __init__(self, handle: EmbedderHandle, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = handle
        self._loop = loop
        self.budget: Budget = _OwnBudget()

    def encode(self, item: MultimodalInput) -> MultimodalInput:
        """Return the input as it is: the replica encodes it."""
        return item

    def embed_encoded(self, items: Sequence[MultimodalInput]) -> np.ndarray:
        """Return float32[len(items), dimension], unit length.

        Searches come first: while the embedder is overloaded this waits. Raises Overloaded or
        DeadlineExceeded where it does for PATIENCE_S, InvalidInput, OutOfMemory, ModelUnavailable.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            call = self._handle.embed(items, CALL_TIMEOUT_S)
            try:
                return asyncio.run_coroutine_threadsafe(call, self._loop).result().vectors
            except (Overloaded, DeadlineExceeded):
                if time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_S)
