"""Evidence on a page by the method that is available, wherever the models run."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cluster.errors import InvalidInput, NotFound
from cluster.pages.files import WORDS, PageFiles, PageKey
from cluster.pages.words import from_bytes, matched_words
from models.evidence.regions import Evidence, Method, of_states, of_words

log = logging.getLogger(__name__)

MethodAsked = Literal["auto"] | Method


@dataclass(frozen=True)
class EvidenceFinder:
    """The page's own words come first, then late interaction, then the embedder.

    `late` is asked where files of `vectors_kind` are kept; `states` gives the similarity of a text
    to each visual token of a JPEG, float32[rows, columns].
    """

    files: PageFiles
    vectors_kind: str
    late: Callable[[str, PageKey], Awaitable[Evidence]]
    states: Callable[[str, bytes], Awaitable[np.ndarray]]

    async def find_evidence(
        self, method: MethodAsked, text: str, page: PageKey, jpeg: bytes
    ) -> Evidence:
        """Raises NotFound where what the method needs was not kept of the page."""
        if method in ("auto", "words"):
            evidence = await asyncio.to_thread(self._words, text, page, method == "words")
            if evidence.regions or method == "words":
                return evidence
        if method == "late-interaction" or (method == "auto" and await self._has_vectors(page)):
            return await self.late(text, page)
        return of_states(await self.states(text, jpeg))

    async def _has_vectors(self, page: PageKey) -> bool:
        return await asyncio.to_thread(self.files.has, *page, self.vectors_kind)

    def _words(self, text: str, page: PageKey, must: bool) -> Evidence:
        try:
            return of_words(matched_words(from_bytes(self.files.get(*page, WORDS)), text))
        except NotFound:  # ingested before words were kept
            if must:
                raise
            return of_words([])
        except InvalidInput as error:
            if must:
                raise
            log.warning("words of page %s of %s: %s", page.page, page.doc_id, error)
            return of_words([])
