"""One search from a process of its own: opens the store, loads the embedder, asks."""

from dataclasses import replace
from typing import cast

from cluster.core import Fingerprint, Hit, Query
from cluster.errors import FingerprintMismatch, NotFound
from cluster.milvus import open_store
from cluster.settings import Settings
from models.options import EmbedderOptions, Precision
from models.protocols import Embedder
from models.retrieval import Retriever


def run(settings: Settings, query: Query) -> list[Hit]:
    """The best pages for a query. Raises NotFound where nothing was ingested, FingerprintMismatch
    where the collection is another model's, and InvalidInput."""
    if settings.is_embedded and not settings.data_dir.is_dir():
        raise NotFound(f"there is no store at {settings.store}: quire ingest DIR makes one")
    with open_store(settings) as store:
        held = store.fingerprint()
        if held is None:
            raise NotFound(
                f"collection {settings.collection!r} is empty: quire ingest DIR fills it"
            )
        embedder = None if settings.mode == "text" else _embedder(settings, held)
        return Retriever(store, embedder).search(query, settings)


def _embedder(settings: Settings, held: Fingerprint) -> Embedder:
    """The embedder of the settings, in the collection's own precision unless another is asked."""
    options = EmbedderOptions.from_settings(settings, has_gpu=False)
    precision = settings.precision if settings.precision != "auto" else _precision_of(held)
    fingerprint = options.fingerprint(precision)
    if fingerprint != held:
        raise FingerprintMismatch(
            f"collection {settings.collection!r} holds vectors of {held}; this search would use "
            f"{fingerprint}: search with the model and options it was ingested with"
        )
    from models.embedder import Qwen3VLEmbedder

    return Qwen3VLEmbedder(replace(options, precision=precision))


def _precision_of(held: Fingerprint) -> Precision:
    return cast(Precision, held.precision.removesuffix("+vision"))
