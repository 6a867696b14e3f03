"""Searching from a process of its own: opens the store, loads the embedder, asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

from cluster.capacity.shapes import Precision
from cluster.core import Fingerprint
from cluster.errors import NotFound
from cluster.pages.files import PageFiles
from cluster.settings import Settings
from cluster.store.milvus import open_existing_store
from models.options import EmbedderOptions, LateInteractionOptions, RerankerOptions
from models.protocols import LateInteraction, MatchPages, Reranker
from models.registry import registry
from models.retrieval.retriever import (
    Retriever,
    SecondStage,
    local_first_stage,
    local_match,
    local_second_stage,
)


@contextmanager
def open_retriever(settings: Settings) -> Iterator[Retriever]:
    """A retriever for the settings' collection; in mode "text" without loading a model.

    Raises NotFound where nothing was ingested, FingerprintMismatch where the collection is
    another model's.
    """
    with open_existing_store(settings) as store:
        fingerprint = store.fingerprint()
        if fingerprint is None:
            raise NotFound(
                f"collection {settings.collection!r} is empty: quire ingest DIR fills it"
            )
        second, match = _second_stage(settings), _match(settings)
        if settings.mode == "text":
            yield Retriever(lambda: store, None, second, match)
            return
        options = EmbedderOptions.from_settings(settings, has_gpu=None)
        if options.precision == "auto":  # the collection's own
            options = replace(options, precision=_precision_of(fingerprint))
        # Before a model is loaded for nothing.
        store.check_fingerprint(options.fingerprint(options.resolved_precision))
        from models.qwen3_vl.embedder import Qwen3VLEmbedder

        first = local_first_stage(Qwen3VLEmbedder(options))
        yield Retriever(lambda: store, first, second, match)


def _second_stage(settings: Settings) -> SecondStage | None:
    if settings.rerank in ("none", "late-interaction"):
        return None
    if settings.rerank == "auto" and settings.mode == "text":
        return None  # full text alone is asked for where no model shall be loaded
    options = RerankerOptions.from_settings(settings, has_gpu=None)

    def load() -> Reranker:
        from models.qwen3_vl.reranker import Qwen3VLReranker

        return Qwen3VLReranker(options)

    spec = registry.find_spec(options.model, "reranker")
    return local_second_stage(spec, load, PageFiles.from_settings(settings))


def _match(settings: Settings) -> MatchPages | None:
    if settings.rerank != "late-interaction":
        return None
    options = LateInteractionOptions.from_settings(settings)

    def load() -> LateInteraction:
        from models.late_interaction.model import ColPaliModel

        return ColPaliModel(options)

    return local_match(load, PageFiles.from_settings(settings))


def _precision_of(held: Fingerprint) -> Precision:
    return cast(Precision, held.precision.removesuffix("+vision"))
