"""Search: a query becomes a vector, the store finds pages by it and by their text.

Not covered yet: reranking the candidates.
"""

from cluster.core import Hit, Query
from cluster.errors import InvalidInput
from cluster.milvus import MilvusStore
from cluster.settings import Settings
from models.inputs import MultimodalInput
from models.protocols import Embedder

IMAGE_DENSE_WEIGHT = 0.5  # what an image shows, no full text can say


class Retriever:
    """Searches one collection with the embedder that filled it.

    `embedder` may be None where only text searches are asked for.
    """

    def __init__(self, store: MilvusStore, embedder: Embedder | None) -> None:
        """Raises FingerprintMismatch where the collection is another model's."""
        if embedder is not None:
            store.check_fingerprint(embedder.fingerprint)
        self._store = store
        self._embedder = embedder

    def search(self, query: Query, settings: Settings) -> list[Hit]:
        """The best `top_k` pages, best first. Raises InvalidInput."""
        if settings.mode == "text" and query.image is not None:
            raise InvalidInput("mode text cannot use an image: choose hybrid or dense")
        return self._store.search(
            vector=self._vector(query) if settings.mode != "text" else None,
            text=query.text,
            wanted=query.filter,
            mode=settings.mode,
            top_k=settings.top_k,
            fusion=settings.fusion,
            dense_weight=self._dense_weight(query, settings),
        )

    def _dense_weight(self, query: Query, settings: Settings) -> float:
        if settings.dense_weight is not None:
            return settings.dense_weight
        if self._embedder is None or query.image is not None:
            return IMAGE_DENSE_WEIGHT
        return self._embedder.spec.dense_weight

    def _vector(self, query: Query) -> list[float]:
        if self._embedder is None:
            raise InvalidInput("without an embedder only mode text can be searched")
        if not query.text.strip() and query.image is None:
            raise InvalidInput("give a text, an image, or both to search for")
        images = () if query.image is None else (query.image,)
        item = MultimodalInput(text=query.text, images=images)
        vector: list[float] = self._embedder.embed([item])[0].tolist()
        return vector
