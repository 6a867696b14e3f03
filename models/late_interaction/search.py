"""MaxSim over kept multi-vectors: made at ingest, read for candidates and for evidence."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from cluster.errors import InvalidInput, NotFound
from cluster.pages.files import PageFiles, PageKey, vectors_kind
from cluster.pages.vectors import (
    PackedVectors,
    PageVectors,
    Storage,
    Tile,
    from_bytes,
    pack_vectors,
)
from models.evidence.regions import Evidence, of_tokens
from models.inputs import MultimodalInput
from models.late_interaction.maxsim import maxsim, similarities
from models.late_interaction.pooling import merge_tokens
from models.protocols import LateInteraction

READERS = 16  # files at a time: an object store takes 30 ms for each, however many are asked for
log = logging.getLogger(__name__)


class LateSearch:
    """Questions against the multi-vectors that one model made and the page files keep."""

    def __init__(self, model: LateInteraction, files: PageFiles) -> None:
        self._model = model
        self._files = files
        self._kind = vectors_kind(model.spec.name, model.spec.revision)

    def score(self, question: MultimodalInput, pages: Sequence[PageKey]) -> np.ndarray:
        """MaxSim of each page, float32[pages]; NaN where a page has no multi-vectors of this model.

        Raises InvalidInput where none of them has any.
        """
        stored = list(_readers().map(self._held, pages))
        present = [page for page in stored if page is not None]
        if pages and not present:
            raise InvalidInput(
                f"none of the pages found has multi-vectors of {self._model.spec.name}: ingest "
                "them again with --multi-vectors int8, or choose another rerank"
            )
        if len({page.recipe for page in present}) > 1:
            raise InvalidInput(
                "the pages found have multi-vectors of different precision, tiles or pooling: "
                "their scores do not compare; ingest them again with one setting"
            )
        image = question.images[0] if question.images else None
        scores = np.full(len(pages), np.nan, np.float32)
        with_vectors = [number for number, page in enumerate(stored) if page is not None]
        scores[with_vectors] = maxsim(self._model.embed_query(question.text, image), present)
        return scores

    def evidence(self, text: str, page: PageKey) -> Evidence:
        """Find where on a page the words of a text are. Raises NotFound or InvalidInput."""
        vectors = self._held(page)
        if vectors is None:
            raise NotFound(f"page {page.page} of {page.doc_id} has no multi-vectors of this model")
        return token_evidence(self._model, text, vectors.cell_vectors, vectors.tiles)

    def _held(self, page: PageKey) -> PackedVectors | None:
        try:
            return from_bytes(self._files.get(*page, kind=self._kind))
        except NotFound:
            return None
        except InvalidInput as error:  # one damaged file is no reason to fail a search
            log.warning("multi-vectors of page %s of %s: %s", page.page, page.doc_id, error)
            return None


@cache
def _readers() -> ThreadPoolExecutor:
    """Threads that read files, of all searches of this process together."""
    return ThreadPoolExecutor(READERS, thread_name_prefix="multi-vectors")


def token_evidence(
    model: LateInteraction, text: str, cells: np.ndarray, tiles: Sequence[Tile]
) -> Evidence:
    """Find the words of a text among cells float32[N, d] of a page. Raises InvalidInput."""
    vectors, tokens = model.embed_query(text), model.query_tokens(text)
    numbers = [number for number, token in enumerate(tokens) if token]
    if not numbers:
        raise InvalidInput("give words to look for")
    return of_tokens(
        [tokens[number] for number in numbers], similarities(vectors[numbers], cells), tiles
    )


def pack_page(page: PageVectors, *, storage: Storage, token_pooling: int) -> PackedVectors:
    """Return a page's multi-vectors as they are kept."""
    vectors, members = page.vectors, None
    if token_pooling > 1 and len(vectors) > token_pooling:
        vectors, members = merge_tokens(vectors, token_pooling)
    return pack_vectors(vectors, page.tiles, storage=storage, members=members)
