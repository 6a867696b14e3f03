"""The Qwen3-VL embedder: multimodal inputs in, unit vectors out, exact whatever the batch."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from threading import Lock

import numpy as np
import torch

from models.engine.budget import TokenBudget
from models.engine.loading import load_checkpoint
from models.engine.pending import Pending
from models.images import FACTOR_PX, blank_page
from models.inputs import EncodedInput, MultimodalInput, Picture
from models.options import EmbedderOptions, Pooling
from models.qwen3_vl.encoder import InputEncoder
from models.qwen3_vl.forward import PackedQwen3VL
from models.qwen3_vl.packing import pack
from models.registry import registry

WINDOW = 64  # inputs that are encoded while the device works on those before


class Qwen3VLEmbedder:
    """Embeds text, images, video frames or any mix with one checkpoint.

    Safe to call from several threads: a GPU's shares are started one after the other, so that one
    thread encodes while another's inputs are computed; a CPU computes them side by side.
    """

    def __init__(self, options: EmbedderOptions) -> None:
        """Load the checkpoint. Raises ModelUnavailable or InvalidInput."""
        spec = registry.find_spec(options.model)
        checkpoint = load_checkpoint(
            spec,
            options.precision,
            device=options.device,
            quantize_vision=options.quantize_vision,
        )
        self.spec = spec
        self.pooling = options.pooling
        self.budget = TokenBudget(spec.name, options.batch_tokens)
        self.fingerprint = options.fingerprint(checkpoint.precision)
        images = checkpoint.processor.image_processor
        packed = PackedQwen3VL(checkpoint.model, images.image_mean, images.image_std)
        self.forward, self.device = packed.forward, packed.device
        # Two batches at once would need twice the memory of a GPU; a CPU has cores for both.
        self._turn = Lock() if self.device.type == "cuda" else nullcontext()
        self.encoder = InputEncoder(
            checkpoint.processor,
            min_pixels=spec.min_pixels,
            max_pixels=self.fingerprint.max_pixels,
            # Invariant: no input is longer than a batch.
            max_tokens=min(spec.max_tokens, options.batch_tokens),
            instruction=options.instruction,
        )

    def encode(self, item: MultimodalInput) -> EncodedInput:
        """Return the host's share: token ids and pixels. Safe to call from any thread."""
        return self.encoder.encode(item)

    def start(self, items: Sequence[EncodedInput]) -> Pending:
        """Start the device's share → unit vectors float32[dimension] to wait for, one an input.

        A GPU computes while the caller goes on, and what is started next is queued behind it.
        Raises OutOfMemory.
        """
        tokens = [item.tokens for item in items]
        with self._turn:
            return Pending(self.budget.map(self._embed_batch, items, tokens))

    def embed_encoded(self, items: Sequence[EncodedInput]) -> np.ndarray:
        """The device's share → float32[len(items), dimension], unit length. Raises OutOfMemory."""
        vectors = self.start(items).wait()
        return np.array(vectors, np.float32).reshape(len(items), self.fingerprint.dimension)

    def embed(self, items: Sequence[MultimodalInput]) -> np.ndarray:
        """Both shares → float32[len(items), dimension], unit length.

        Raises InvalidInput or OutOfMemory.
        """
        windows = [items[start : start + WINDOW] for start in range(0, len(items), WINDOW)]
        with ThreadPoolExecutor(1) as host:
            encoded = host.map(lambda window: [self.encode(item) for item in window], windows)
            parts = [self.embed_encoded(window) for window in encoded]
        return np.concatenate(parts) if parts else self.embed_encoded([])

    def warm_up(self) -> None:
        """Embed a short query and, on a GPU, a full batch of pages.

        What the first shapes of a GPU cost (libraries, memory) is paid before anybody waits.
        Raises OutOfMemory.
        """
        self.embed([MultimodalInput(text="warm up")])
        if self.device.type == "cuda":
            page = self.encode(MultimodalInput(images=(blank_page(self.fingerprint.max_pixels),)))
            self.embed_encoded([page] * max(1, self.budget.tokens // page.tokens))

    def similarities(self, question: MultimodalInput, page: Picture) -> np.ndarray:
        """Compare a question with each visual token of a page → float32[rows, columns], cosine.

        Raises InvalidInput or OutOfMemory.
        """
        return self.similarities_encoded(
            self.encode(question), self.encode(MultimodalInput(images=(page,)))
        )

    def similarities_encoded(self, question: EncodedInput, page: EncodedInput) -> np.ndarray:
        """Compare an encoded question with an encoded page, an image alone.

        The states that the page's vector is pooled from, after the final norm. Raises OutOfMemory.
        """
        with self._turn:
            vectors = self.budget.whole(partial(self._visual_vectors, page))
        _, height, width, _ = page.visuals[0].shape
        similar: np.ndarray = vectors @ self.embed_encoded([question])[0]
        return similar.reshape(height // FACTOR_PX, width // FACTOR_PX)

    @torch.inference_mode()
    def _visual_vectors(self, item: EncodedInput) -> np.ndarray:
        states = self.forward(pack([item]), None)[item.visual_index]
        return unit_vectors(states, self.fingerprint.dimension).cpu().numpy()

    @torch.inference_mode()
    def _embed_batch(self, items: Sequence[EncodedInput]) -> Sequence[torch.Tensor]:
        batch = pack(items)
        states = self.forward(batch, batch.end_rows if self.pooling == "last" else None)
        pooled = pool(states, batch.lengths, self.pooling)
        return unit_vectors(pooled, self.fingerprint.dimension).unbind()


def pool(states: torch.Tensor, lengths: tuple[int, ...], pooling: Pooling) -> torch.Tensor:
    """Token states [rows, d] → [inputs, d]. For "last" each row is an input's last."""
    if pooling == "last":
        return states
    return torch.stack([part.mean(dim=0) for part in states.split(lengths)])


def unit_vectors(vectors: torch.Tensor, dimension: int) -> torch.Tensor:
    """The first `dimension` components at unit length, float32 (Matryoshka, arXiv:2205.13147)."""
    return torch.nn.functional.normalize(vectors[:, :dimension].float(), dim=-1)
