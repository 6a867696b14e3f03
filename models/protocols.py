"""What the other rooms may ask of a model."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import numpy as np

from cluster.core import Fingerprint
from models.inputs import MultimodalInput
from models.prompts import EncodedInput
from models.registry import ModelSpec


class Embedder(Protocol):
    """Turns multimodal inputs into unit vectors."""

    @property
    def fingerprint(self) -> Fingerprint: ...

    @property
    def spec(self) -> ModelSpec: ...

    def encode(self, item: MultimodalInput) -> EncodedInput:
        """The host's share of the work: token ids and pixels. Safe to call from any thread."""
        ...

    def embed_encoded(self, items: Sequence[EncodedInput]) -> np.ndarray:
        """The device's share of the work → float32[len(items), dimension], unit length."""
        ...

    def embed(self, items: Sequence[MultimodalInput]) -> np.ndarray:
        """Both shares → float32[len(items), dimension], unit length."""
        ...


class Reranker(Protocol):
    """Scores documents for a query."""

    @property
    def spec(self) -> ModelSpec: ...

    def score(self, query: MultimodalInput, documents: Sequence[MultimodalInput]) -> np.ndarray:
        """P("yes") of each document → float32[len(documents)]."""
        ...


# What a search asks of its models, wherever they run.
EmbedQuery = Callable[[MultimodalInput], Awaitable[np.ndarray]]  # → float32[dimension]
ScorePages = Callable[[MultimodalInput, Sequence[MultimodalInput]], Awaitable[np.ndarray]]
