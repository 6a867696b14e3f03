"""(instruction, query, document) pairs → the reranker's prompt, with what pairs share taken once.

The prompt is the one Qwen3-VL-Reranker was trained with. Source: its model card and reference code.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from cluster.errors import InvalidInput
from models.engine.budget import plan_batches
from models.engine.processor import Processor
from models.inputs import EncodedInput, MultimodalInput
from models.qwen3_vl.prompts import Part, Prompt, PromptTokenizer, content_of
from models.qwen3_vl.visuals import VisualBudget, visual_tokens

# Decoding leaves the interpreter to others; more threads than cores would only end the first late.
DECODE_THREADS = min(8, max(2, os.cpu_count() or 1))
FIRST_IMAGES = 2  # the device begins with so many pages while the rest is decoded
SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".'
)


@dataclass(frozen=True)
class EncodedGroup:
    """Documents of one query that are scored in one batch.

    `prefix` is what their prompts have in common, None where nothing is shared; `branches` are the
    rest of each prompt; `documents` says which documents of the request they are.
    """

    prefix: EncodedInput | None
    branches: tuple[EncodedInput, ...]
    documents: tuple[int, ...]

    @property
    def tokens(self) -> int:
        shared = self.prefix.tokens if self.prefix else 0
        return shared + sum(branch.tokens for branch in self.branches)

    def parts(self, budget_tokens: int) -> "list[EncodedGroup]":
        """The same documents in their order, in groups within a budget or of one document."""
        if self.tokens <= budget_tokens or len(self.branches) == 1:
            return [self]
        middle = len(self.branches) // 2
        halves = [
            replace(self, branches=self.branches[half], documents=self.documents[half])
            for half in (slice(middle), slice(middle, None))
        ]
        return [part for half in halves for part in half.parts(budget_tokens)]


class PairEncoder:
    """Encodes a query with its documents for one checkpoint."""

    def __init__(
        self,
        processor: Processor,
        *,
        min_pixels: int,
        max_pixels: int,
        max_tokens: int,
        batch_tokens: int,
        instruction: str,
    ) -> None:
        self.max_tokens = max_tokens
        self.batch_tokens = batch_tokens
        self.instruction = instruction
        self._budget = VisualBudget(min_pixels, max_pixels, max_tokens)
        self._tokenizer = PromptTokenizer(processor)
        self._threads = ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode")

    def encode(
        self, query: MultimodalInput, documents: Sequence[MultimodalInput], *, share: bool = True
    ) -> list[EncodedGroup]:
        """Groups of at most `batch_tokens` tokens. Raises InvalidInput where a pair cannot fit."""
        pairs = list(self._pairs(query, documents))
        return self._groups(pairs, 0, len(query.images), share)

    def parts(
        self, query: MultimodalInput, documents: Sequence[MultimodalInput]
    ) -> Iterator[list[EncodedGroup]]:
        """Yield groups of a few documents, in their order, as soon as these are encoded.

        The pictures of all of them are decoded side by side. Raises InvalidInput.
        """
        pairs = self._pairs(query, documents)
        start = 0
        for size in _part_sizes(documents):
            yield self._groups(list(islice(pairs, size)), start, len(query.images), share=True)
            start += size

    def _pairs(
        self, query: MultimodalInput, documents: Sequence[MultimodalInput]
    ) -> Iterator[EncodedInput]:
        """Begin to encode every pair, and yield them in their order."""
        if query.video or any(document.video for document in documents):
            raise InvalidInput("the reranker reads text and images, no video")
        grids: dict[int, list[np.ndarray]] = {}
        return self._threads.map(lambda document: self._pair(query, document, grids), documents)

    def _groups(
        self, pairs: list[EncodedInput], first: int, query_images: int, share: bool
    ) -> list[EncodedGroup]:
        """Group the pairs of the documents from number `first` on."""
        shared = _shared_tokens(pairs, query_images) if share and len(pairs) > 1 else 0
        prefix = None
        if shared:
            halves = [_split(pair, shared, query_images) for pair in pairs]
            prefix, pairs = halves[0][0], [rest for _, rest in halves]
        batches = plan_batches([pair.tokens for pair in pairs], self.batch_tokens - shared)
        return [
            EncodedGroup(
                prefix,
                tuple(pairs[index] for index in batch),
                tuple(first + index for index in batch),
            )
            for batch in batches
        ]

    def _pair(
        self,
        query: MultimodalInput,
        document: MultimodalInput,
        query_grids: dict[int, list[np.ndarray]],
    ) -> EncodedInput:
        room = self._budget.room(len(query.images) + len(document.images))
        if room not in query_grids:
            query_grids[room] = [self._budget.grid(image, room)[None] for image in query.images]
        own = [self._budget.grid(image, room)[None] for image in document.images]
        visuals = (*query_grids[room], *own)
        instruction = self.instruction if query.instruction is None else query.instruction

        def prompt(text: str) -> Prompt:
            parts: tuple[Part, ...] = (
                {"type": "text", "text": f"<Instruct>: {instruction}"},
                {"type": "text", "text": "<Query>:"},
                *content_of(query.text, len(query.images)),
                {"type": "text", "text": "\n<Document>:"},
                *content_of(text, len(document.images)),
            )
            return Prompt(SYSTEM, parts, visuals)

        return self._tokenizer.encode(prompt, document.text, self.max_tokens)


def _part_sizes(documents: Sequence[MultimodalInput]) -> Iterator[int]:
    """Yield how many documents each part has: twice as many pictures as the one before it.

    So the device begins soon, and then has enough to do until the next part is decoded. Texts go
    with the pictures that follow them.
    """
    size = images = 0
    wanted = FIRST_IMAGES
    for document in documents:
        size, images = size + 1, images + len(document.images)
        if images >= wanted:
            yield size
            size, images, wanted = 0, 0, 2 * wanted
    if size:
        yield size


def _shared_tokens(pairs: Sequence[EncodedInput], query_images: int) -> int:
    """Count the leading tokens that all pairs share; 0, or with all images of the query.

    Found in the tokens themselves: a tokenizer may join the query's last characters with what
    follows them. Ends before the first image of a document, for images look alike as tokens.
    """
    first = pairs[0]
    shared = first.tokens - 1
    for pair in pairs:
        shared = min(shared, _document_image(pair, query_images), pair.tokens - 1)
        differs = np.flatnonzero(pair.token_ids[:shared] != first.token_ids[:shared])
        shared = int(differs[0]) if len(differs) else shared
    seen = _image_tokens(first.visuals[:query_images])
    return shared if np.count_nonzero(first.visual_index < shared) == seen else 0


def _document_image(pair: EncodedInput, query_images: int) -> int:
    """Find the document's first image; the end of a pair without one."""
    seen = _image_tokens(pair.visuals[:query_images])
    return int(pair.visual_index[seen]) if len(pair.visual_index) > seen else pair.tokens


def _image_tokens(visuals: Sequence[np.ndarray]) -> int:
    return sum(sum(visual_tokens(visual)) for visual in visuals)


def _split(pair: EncodedInput, shared: int, query_images: int) -> tuple[EncodedInput, EncodedInput]:
    """Return the first `shared` tokens, with the query's images, and the rest."""
    is_head = pair.visual_index < shared
    head = EncodedInput(
        token_ids=pair.token_ids[:shared],
        positions=pair.positions[:, :shared],
        visual_index=pair.visual_index[is_head],
        visuals=pair.visuals[:query_images],
    )
    rest = EncodedInput(
        token_ids=pair.token_ids[shared:],
        positions=pair.positions[:, shared:],
        visual_index=pair.visual_index[~is_head] - shared,
        visuals=pair.visuals[query_images:],
    )
    return head, rest
