"""Searching from a process of its own: opens the store, loads the embedder, asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

from cluster.core import Fingerprint
from cluster.errors import FingerprintMismatch, NotFound
from cluster.milvus import open_store
from cluster.settings import Settings
from models.options import EmbedderOptions, Precision
from models.protocols import Embedder
from models.retrieval import Retriever


@contextmanager
def open_retriever(settings: Settings) -> Iterator[Retriever]:
    """A retriever for the settings' collection; in mode "text" without loading a model.

    Raises NotFound where nothing was ingested, FingerprintMismatch where the collection is
    another model's.
    """
    if settings.is_embedded and not settings.data_dir.is_dir():
        raise NotFound(f"there is no store at {settings.store}: quire ingest DIR makes one")
    with open_store(settings) as store:
        held = store.fingerprint()
        if held is None:
            raise NotFound(
                f"collection {settings.collection!r} is empty: quire ingest DIR fills it"
            )
        embedder = None if settings.mode == "text" else _embedder(settings, held)
        yield Retriever(store, embedder)


def _embedder(settings: Settings, held: Fingerprint) -> Embedder:
    """The embedder of the settings, in the collection's own precision unless another is asked."""
    options = EmbedderOptions.from_settings(settings, has_gpu=False)
    if settings.precision == "auto":
        options = replace(options, precision=_precision_of(held))
    fingerprint = options.fingerprint(options.resolved_precision)
    if fingerprint != held:
        raise FingerprintMismatch(
            f"collection {settings.collection!r} holds vectors of {held}; this search would use "
            f"{fingerprint}: search with the model and options it was ingested with"
        )
    from models.embedder import Qwen3VLEmbedder

    return Qwen3VLEmbedder(options)


def _precision_of(held: Fingerprint) -> Precision:
    return cast(Precision, held.precision.removesuffix("+vision"))
