"""What the other rooms may ask of a model."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import numpy as np

from cluster.core import Fingerprint, Hit
from cluster.pages.vectors import PageVectors
from models.inputs import EncodedInput, MultimodalInput, Picture
from models.registry import ModelSpec


class Budget(Protocol):
    """The tokens that a model computes at once, halved where memory ran out."""

    model: str
    tokens: int
    halved: bool
    on_refusal: Callable[[], None]


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
        """Return the device's share of the work → float32[len(items), dimension], unit length."""
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


class LateInteraction(Protocol):
    """Turns pages and questions into multi-vectors."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def budget(self) -> Budget: ...

    def embed_images(
        self, images: Sequence[Picture], *, hidden: bool = False, tiles: int = 1
    ) -> list[PageVectors]:
        """The vectors of pages, each with its place; with `hidden` also the states before them."""
        ...

    def embed_query(self, text: str = "", image: Picture | None = None) -> np.ndarray:
        """Return the vectors of a question → float32[T, d]."""
        ...

    def query_tokens(self, text: str) -> list[str]:
        """Return the token that each vector of a text stands for; "" where it is of the prompt."""
        ...


# What a search asks of its models, wherever they run.
EmbedQuery = Callable[[MultimodalInput], Awaitable[np.ndarray]]  # → float32[dimension]
ScorePages = Callable[[MultimodalInput, Sequence[MultimodalInput]], Awaitable[np.ndarray]]
# MaxSim of each page; NaN where it has no multi-vectors.
MatchPages = Callable[[MultimodalInput, Sequence[Hit]], Awaitable[np.ndarray]]
