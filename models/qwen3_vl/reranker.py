"""The Qwen3-VL reranker: a query and documents in, P("yes") for each out, exact in any batch."""

from collections.abc import Iterator, Sequence
from threading import Lock

import numpy as np
import torch

from cluster.errors import ModelUnavailable
from models.engine.budget import TokenBudget
from models.engine.loading import load_checkpoint, output_rows
from models.engine.pending import Pending
from models.images import blank_page
from models.inputs import EncodedInput, MultimodalInput
from models.options import RerankerOptions
from models.qwen3_vl.forward import PackedQwen3VL
from models.qwen3_vl.packing import PackedBatch, pack
from models.qwen3_vl.rerank_prompts import EncodedGroup, PairEncoder
from models.registry import registry

ANSWERS = ("yes", "no")


class Qwen3VLReranker:
    """Scores documents for a query: each text, images, or both.

    Safe to call from several threads: the device's shares are started one after the other.
    """

    def __init__(self, options: RerankerOptions) -> None:
        """Load the checkpoint. Raises ModelUnavailable or InvalidInput."""
        spec = registry.find_spec(options.model, "reranker")
        checkpoint = load_checkpoint(spec, options.precision, device=options.device)
        self.spec = spec
        self.budget = TokenBudget(spec.name, options.batch_tokens)
        self._turn = Lock()
        images = checkpoint.processor.image_processor
        packed = PackedQwen3VL(checkpoint.model, images.image_mean, images.image_std)
        self.forward, self.device = packed.forward, packed.device
        yes, no = output_rows(checkpoint, _answer_ids(checkpoint.processor.tokenizer))
        # sigmoid(yes - no) is the softmax over these two answers alone.
        self._direction = (yes - no).to(self.device)
        self.encoder = PairEncoder(
            checkpoint.processor,
            min_pixels=spec.min_pixels,
            max_pixels=spec.max_pixels,
            max_tokens=min(spec.max_tokens, options.batch_tokens),
            batch_tokens=options.batch_tokens,
            instruction=options.instruction,
        )

    def encode(
        self, query: MultimodalInput, documents: Sequence[MultimodalInput]
    ) -> list[EncodedGroup]:
        """Return the host's share: token ids and pixels. Safe to call from any thread.

        Raises InvalidInput.
        """
        return self.encoder.encode(query, documents)

    def encode_parts(
        self, query: MultimodalInput, documents: Sequence[MultimodalInput]
    ) -> Iterator[list[EncodedGroup]]:
        """Yield the host's share of a few documents at a time, so that the device may begin.

        Raises InvalidInput.
        """
        return self.encoder.parts(query, documents)

    def start(self, groups: Sequence[EncodedGroup]) -> Pending:
        """Start the device's share → float32[documents of a group] to wait for, one a group.

        A GPU computes while the caller goes on, and what is started next is queued behind it.
        Scores are in 0 … 1. Raises OutOfMemory.
        """
        tokens = [group.tokens for group in groups]
        with self._turn:
            return Pending(self.budget.map(self._score_groups, groups, tokens))

    def score_encoded(self, groups: Sequence[EncodedGroup]) -> list[np.ndarray]:
        """Return the device's share → float32[documents of a group] for each group, in 0 … 1.

        Raises OutOfMemory.
        """
        return self.start(groups).wait()

    def score(self, query: MultimodalInput, documents: Sequence[MultimodalInput]) -> np.ndarray:
        """Both shares → float32[len(documents)], in 0 … 1. Raises InvalidInput or OutOfMemory."""
        groups: list[EncodedGroup] = []
        started: list[Pending] = []
        for part in self.encode_parts(query, documents):
            groups += part
            started.append(self.start(part))
        return gather(groups, [scores for pending in started for scores in pending.wait()])

    def warm_up(self) -> None:
        """Score a short text and, on a GPU, a full batch of pages, before anybody waits.

        Raises OutOfMemory.
        """
        query = MultimodalInput(text="warm up")
        self.score(query, [MultimodalInput(text="text")])
        if self.device.type == "cuda":
            page = MultimodalInput(images=(blank_page(self.spec.max_pixels),))
            (group,) = self.encode(query, [page])
            pages = max(1, self.budget.tokens // group.tokens)
            self.score_encoded(self.encode(query, [page] * pages))

    def _score_groups(self, groups: Sequence[EncodedGroup]) -> Sequence[torch.Tensor]:
        if len(groups) == 1:  # it may have been made for a budget that was halved since
            parts = groups[0].parts(self.budget.tokens)
            return [torch.cat([self._score_batch(pack_groups([part])) for part in parts])]
        sizes = [len(group.branches) for group in groups]
        return torch.split(self._score_batch(pack_groups(groups)), sizes)

    @torch.inference_mode()
    def _score_batch(self, batch: PackedBatch) -> torch.Tensor:
        states = self.forward(batch, batch.end_rows)
        return torch.sigmoid(states.float() @ self._direction)


def pack_groups(groups: Sequence[EncodedGroup]) -> PackedBatch:
    """Groups end to end: each prefix once, and behind it the branches that continue it."""
    segments: list[EncodedInput] = []
    prefixes: list[int | None] = []
    for group in groups:
        shared = None
        if group.prefix is not None:
            shared = len(segments)
            segments.append(group.prefix)
            prefixes.append(None)
        segments += group.branches
        prefixes += [shared] * len(group.branches)
    return pack(segments, prefixes)


def gather(groups: Sequence[EncodedGroup], scores: Sequence[np.ndarray]) -> np.ndarray:
    """Scores by group → float32[documents] in the order of the request."""
    total = sum(len(group.documents) for group in groups)
    scores_by_document = np.empty(total, dtype=np.float32)
    for group, part in zip(groups, scores, strict=True):
        scores_by_document[list(group.documents)] = part
    return scores_by_document


def _answer_ids(tokenizer: object) -> list[int]:
    vocabulary: dict[str, int] = tokenizer.get_vocab()  # type: ignore[attr-defined]
    try:
        return [vocabulary[answer] for answer in ANSWERS]
    except KeyError as error:
        raise ModelUnavailable(
            f"this checkpoint has no token for {error}: it is no Qwen3-VL reranker"
        ) from error
