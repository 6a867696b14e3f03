"""Two-stage search: a query becomes a vector, the store finds candidates, a reranker orders them.

The one code path of the command line, the router and evaluation; only where the models run differs.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Literal

import numpy as np

from cluster.core import Hit, Query
from cluster.errors import InvalidInput
from cluster.pages.files import PageFiles, PageKey
from cluster.settings import Settings
from cluster.store.milvus import MilvusStore
from models.inputs import MultimodalInput
from models.protocols import (
    Embedder,
    EmbedQuery,
    LateInteraction,
    MatchPages,
    Reranker,
    ScorePages,
)
from models.registry import ModelSpec

Rerank = Literal["none", "cross-encoder", "late-interaction"]
OrderHits = Callable[[list[Hit]], Awaitable[list[Hit]]]
IMAGE_DENSE_WEIGHT = 0.5  # what an image shows, no full text can say


@dataclass(frozen=True)
class FirstStage:
    """How queries become vectors, and the model that does it."""

    spec: ModelSpec
    embed: EmbedQuery


@dataclass(frozen=True)
class SecondStage:
    """How candidates are scored, the model that does it, and where page images are."""

    spec: ModelSpec
    score: ScorePages
    images: PageFiles


@dataclass
class Found:
    """The best pages, best first, what ordered them, and the seconds that each stage took."""

    hits: list[Hit] = field(default_factory=list)
    rerank: Rerank = "none"
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - started


class Retriever:
    """Searches one collection with the embedder that filled it.

    `first` may be None where only text searches are asked for, `second` and `match` where nothing
    is ordered by them.
    """

    def __init__(
        self,
        store: Callable[[], MilvusStore],
        first: FirstStage | None,
        second: SecondStage | None = None,
        match: MatchPages | None = None,
    ) -> None:
        self._store = store
        self._first = first
        self._second = second
        self._match = match

    async def search(self, query: Query, settings: Settings) -> Found:
        """Return the best `top_k` pages. Raises InvalidInput."""
        if settings.mode == "text" and query.image is not None:
            raise InvalidInput("mode text cannot use an image: choose hybrid or dense")
        if not query.text.strip() and query.image is None:
            raise InvalidInput("give a text, an image, or both to search for")
        name, order = self._order_for(query, settings)
        result = Found(rerank=name)
        vector = None
        if settings.mode != "text":
            with result.timed("embed"):
                vector = await self._vector(query)
        with result.timed("search"):
            wanted = max(settings.top_k, settings.rerank_k) if order else settings.top_k
            result.hits = await asyncio.to_thread(self._candidates, query, vector, settings, wanted)
        if order is not None:
            with result.timed("rerank"):
                candidates, others = (
                    result.hits[: settings.rerank_k],
                    result.hits[settings.rerank_k :],
                )
                result.hits = (await order(candidates) if candidates else []) + others
        result.hits = _sorted(result.hits[: settings.top_k], settings)
        return result

    def hits(self, query: Query, settings: Settings) -> list[Hit]:
        """Return the hits of `search`, for callers without an event loop."""
        return asyncio.run(self.search(query, settings)).hits

    async def _vector(self, query: Query) -> list[float]:
        if self._first is None:
            raise InvalidInput("without an embedder only mode text can be searched")
        vector: list[float] = (await self._first.embed(_question(query))).tolist()
        return vector

    def _order_for(self, query: Query, settings: Settings) -> tuple[Rerank, OrderHits | None]:
        """Choose what orders the candidates of a search, if anything. Raises InvalidInput."""
        if settings.rerank == "late-interaction":
            if self._match is None:
                raise InvalidInput(
                    "no late-interaction model is loaded here: choose another rerank"
                )
            return "late-interaction", partial(_by_maxsim, self._match, query)
        second = self._second
        if second is None and settings.rerank == "cross-encoder":
            raise InvalidInput("no reranker is loaded here: search with rerank none")
        if second is None or settings.rerank == "none":
            return "none", None
        helps = query.text.strip() or not second.spec.needs_words
        if not helps and settings.rerank == "auto":
            return "none", None
        return "cross-encoder", partial(self._by_reranker, second, query)

    def _candidates(
        self, query: Query, vector: list[float] | None, settings: Settings, wanted: int
    ) -> list[Hit]:
        return self._store().search(
            vector=vector,
            text=query.text,
            wanted=query.filter,
            mode=settings.mode,
            top_k=wanted,
            fusion=settings.fusion,
            dense_weight=self._dense_weight(query, settings),
            # A picture is near to pictures; which text it is near to says little.
            chunk_vectors=query.image is None,
        )

    def _dense_weight(self, query: Query, settings: Settings) -> float:
        if settings.dense_weight is not None:
            return settings.dense_weight
        if self._first is None or query.image is not None:
            return IMAGE_DENSE_WEIGHT
        return self._first.spec.dense_weight

    async def _by_reranker(self, second: SecondStage, query: Query, hits: list[Hit]) -> list[Hit]:
        """Hits in the reranker's order; equal scores keep theirs."""
        with_image = second.spec.page_images == "always" or query.image is not None
        pages = await asyncio.to_thread(_pages, second, hits, self._store, with_image)
        scores = await second.score(_question(query), pages)
        scored = [
            replace(hit, rerank=float(score)) for hit, score in zip(hits, scores, strict=True)
        ]
        return sorted(scored, key=lambda hit: -(hit.rerank or 0.0))


def local_first_stage(embedder: Embedder) -> FirstStage:
    """Queries are embedded in this process."""

    async def embed(item: MultimodalInput) -> np.ndarray:
        vector: np.ndarray = (await asyncio.to_thread(embedder.embed, [item]))[0]
        return vector

    return FirstStage(embedder.spec, embed)


def local_second_stage(
    spec: ModelSpec, load: Callable[[], Reranker], images: PageFiles
) -> SecondStage:
    """Candidates are scored in this process; the model is loaded when the first are."""
    reranker = cache(load)

    async def score(query: MultimodalInput, pages: Sequence[MultimodalInput]) -> np.ndarray:
        return await asyncio.to_thread(lambda: reranker().score(query, pages))

    return SecondStage(spec, score, images)


def local_match(load: Callable[[], LateInteraction], files: PageFiles) -> MatchPages:
    """Candidates are matched in this process; the model is loaded when the first are."""
    from models.late_interaction.search import LateSearch

    search = cache(lambda: LateSearch(load(), files))

    async def match(question: MultimodalInput, hits: Sequence[Hit]) -> np.ndarray:
        pages = [PageKey.of(hit) for hit in hits]
        return await asyncio.to_thread(lambda: search().score(question, pages))

    return match


def _sorted(hits: list[Hit], settings: Settings) -> list[Hit]:
    """Return the hits in the order that was asked for; those of unknown quality come last."""
    if settings.sort == "relevance":
        return hits
    sign = 1 if settings.sort == "easy-first" else -1
    return sorted(
        hits,
        key=lambda hit: np.inf if hit.expected_cer is None else sign * hit.expected_cer,
    )


async def _by_maxsim(match: MatchPages, query: Query, hits: list[Hit]) -> list[Hit]:
    """Hits by MaxSim; those without multi-vectors follow as they were."""
    scores = await match(_question(query), hits)
    scored = [
        replace(hit, maxsim=None if np.isnan(score) else float(score))
        for hit, score in zip(hits, scores, strict=True)
    ]
    return sorted(scored, key=lambda hit: np.inf if hit.maxsim is None else -hit.maxsim)


def _question(query: Query) -> MultimodalInput:
    return MultimodalInput(text=query.text, images=() if query.image is None else (query.image,))


def _pages(
    second: SecondStage, hits: Sequence[Hit], store: Callable[[], MilvusStore], with_image: bool
) -> list[MultimodalInput]:
    """Build what the reranker reads of each candidate: the whole page, not the chunk found.

    A page without its picture (kept pages may be cleared away) is read as text. Only texts that are
    read are asked for.
    """
    pictures: list[bytes | None] = [None] * len(hits)
    if with_image:
        pictures = second.images.get_all([PageKey.of(hit) for hit in hits])
    page_chars = second.spec.page_chars
    by_text = [
        hit for hit, picture in zip(hits, pictures, strict=True) if page_chars or picture is None
    ]
    texts = iter(store().page_texts(by_text) if by_text else ())
    pages = []
    for picture in pictures:
        if picture is None:
            pages.append(MultimodalInput(text=next(texts)[: page_chars or None]))
        else:
            text = next(texts)[:page_chars] if page_chars else ""
            pages.append(MultimodalInput(text=text, images=(picture,)))
    return pages
