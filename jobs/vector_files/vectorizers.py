"""What turns inputs into one vector each: an embedder, or late interaction and a pooling."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np

from cluster.core import Fingerprint
from cluster.errors import InvalidInput
from cluster.settings import Settings
from models.inputs import EncodedInput
from models.late_interaction.pooling import PagePooling, pool_tokens
from models.options import EmbedderOptions, LateInteractionOptions
from models.registry import ModelSpec

LateKind = Literal["multi", "hidden"]
PROBE = np.full((64, 64, 3), 255, np.uint8)  # a page that tells how wide states are


class Vectorizer(Protocol):
    """Turns inputs into float32[n, dimension], and tells how many tokens each had."""

    @property
    def fingerprint(self) -> Fingerprint: ...

    @property
    def spec(self) -> ModelSpec: ...

    def prepare(self, content: Any) -> Any:
        """Do the host's share for one input. Raises InvalidInput."""
        ...

    def embed(self, prepared: Sequence[Any]) -> tuple[np.ndarray, list[int]]:
        """Return vectors and token counts. Raises OutOfMemory."""
        ...


class EmbedderVectorizer:
    """The settings' embedder."""

    def __init__(self, settings: Settings) -> None:
        """Load it. Raises ModelUnavailable or InvalidInput."""
        from models.qwen3_vl.embedder import Qwen3VLEmbedder

        self._embedder = Qwen3VLEmbedder(EmbedderOptions.from_settings(settings, has_gpu=None))
        self.fingerprint, self.spec = self._embedder.fingerprint, self._embedder.spec

    def prepare(self, content: Any) -> EncodedInput:
        return self._embedder.encode(content)

    def embed(self, prepared: Sequence[EncodedInput]) -> tuple[np.ndarray, list[int]]:
        vectors = self._embedder.embed_encoded(prepared)
        return vectors, [item.tokens for item in prepared]


class LateVectorizer:
    """The settings' late-interaction model: all tokens of a page."""

    def __init__(self, settings: Settings, kind: LateKind) -> None:
        """Load it. Raises ModelUnavailable."""
        from models.late_interaction.model import ColPaliModel

        self._model = ColPaliModel(LateInteractionOptions.from_settings(settings))
        self._kind, self._tiles = kind, settings.tiles
        self.spec = self._model.spec

    def tokens(self, page: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a page's float32[N, d], and the rows and columns of its tiles, int32[tiles, 2]."""
        hidden = self._kind == "hidden"
        (found,) = self._model.embed_images([page], hidden=hidden, tiles=self._tiles)
        grid = np.array([(tile.rows, tile.columns) for tile in found.tiles], np.int32)
        return found.vectors if found.hidden is None else found.hidden, grid

    def fingerprint(self, pooling: str, dimension: int) -> Fingerprint:
        """Return what changes these vectors."""
        return Fingerprint(
            model=self.spec.name,
            revision=self.spec.revision,
            precision=self._model.precision,
            pooling=f"{self._kind}-{pooling}",
            dimension=dimension,
            max_pixels=self.spec.max_pixels,
            instruction="",
            page_input=f"image in {self._tiles} tiles",
        )

    def prepare(self, content: Any) -> np.ndarray:
        """Return a page's pixels as they are. Raises InvalidInput for what is no page."""
        if not isinstance(content, np.ndarray):
            raise InvalidInput("late interaction embeds pages: name documents")
        return content


class PooledVectorizer:
    """One vector a page from the tokens of late interaction."""

    def __init__(self, late: LateVectorizer, pooling: PagePooling) -> None:
        self._late, self._pooling = late, pooling
        self.spec = late.spec
        vectors, _ = self.embed([PROBE])
        self.fingerprint = late.fingerprint(pooling, vectors.shape[1])

    def prepare(self, content: Any) -> np.ndarray:
        return self._late.prepare(content)

    def embed(self, prepared: Sequence[np.ndarray]) -> tuple[np.ndarray, list[int]]:
        tokens = [self._late.tokens(page)[0] for page in prepared]
        pooled = np.stack([pool_tokens(each, self._pooling) for each in tokens])
        return pooled, [len(each) for each in tokens]
