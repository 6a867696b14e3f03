"""Where on a page the answer is, by the method that is at hand."""

import asyncio
from typing import Literal

from cluster.errors import NotFound
from cluster.page_files import WORDS, PageFiles, PageKey
from cluster.page_words import from_bytes, matched_words
from models.evidence import Evidence, Method, of_states, of_words
from models.inputs import MultimodalInput
from serve.handles import EmbedderHandle, LateInteractionHandle

MethodAsked = Literal["auto"] | Method


class EvidenceFinder:
    """Asks the page's own words first, then late interaction, then the embedder."""

    def __init__(
        self, files: PageFiles, embedder: EmbedderHandle, late: LateInteractionHandle, kind: str
    ) -> None:
        """`kind` is that of the files of the served model's multi-vectors."""
        self._files = files
        self._embedder = embedder
        self._late = late
        self._kind = kind

    async def find(
        self, method: MethodAsked, text: str, page: PageKey, jpeg: bytes, timeout_s: float
    ) -> Evidence:
        """Raises NotFound where what the method needs was not kept of the page."""
        if method in ("auto", "words"):
            found = await asyncio.to_thread(self._words, text, page, method == "words")
            if found.regions or method == "words":
                return found
        has_vectors = method == "auto" and await asyncio.to_thread(
            self._files.has, *page, kind=self._kind
        )
        if method == "late-interaction" or has_vectors:
            return await self._late.evidence(text, page, timeout_s)
        question = MultimodalInput(text=text)
        return of_states(await self._embedder.similarities(question, jpeg, timeout_s))

    def _words(self, text: str, page: PageKey, must: bool) -> Evidence:
        try:
            return of_words(matched_words(from_bytes(self._files.get(*page, kind=WORDS)), text))
        except NotFound:  # ingested before words were kept
            if must:
                raise
            return of_words([])
