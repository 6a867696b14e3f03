"""The Qwen3-VL embedder: multimodal inputs in, unit vectors out, exact whatever the batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from cluster.core import Fingerprint
from cluster.errors import InvalidInput
from models.batching import pack, plan_batches
from models.inputs import EncodedInput, InputEncoder, MultimodalInput
from models.loading import Precision, load_checkpoint
from models.pooling import Pooling, pool, pooled_rows, unit_vectors
from models.qwen3_vl import PackedQwen3VL
from models.registry import ModelSpec, registry

DEFAULT_INSTRUCTION = "Represent the user's input."


@dataclass(frozen=True)
class EmbedderOptions:
    """What a caller may choose. Zeros and "auto" take the model's own."""

    model: str = "quire-tiny"
    precision: Literal["auto"] | Precision = "auto"
    pooling: Pooling = "last"
    dimensions: int = 0
    max_pixels: int = 0
    instruction: str = DEFAULT_INSTRUCTION
    batch_tokens: int = 16_384
    quantize_vision: bool = False
    device: str = ""


class Qwen3VLEmbedder:
    """Embeds text, images, video frames or any mix with one checkpoint."""

    def __init__(self, options: EmbedderOptions) -> None:
        """Load the checkpoint. Raises ModelUnavailable or InvalidInput."""
        spec = registry.find(options.model)
        check_dimensions(spec, options.dimensions)
        checkpoint = load_checkpoint(
            spec,
            options.precision,
            device=options.device,
            quantize_vision=options.quantize_vision,
        )
        self.spec = spec
        self.pooling = options.pooling
        self.batch_tokens = options.batch_tokens
        self.fingerprint = fingerprint_of(options, checkpoint.precision)
        images = checkpoint.processor.image_processor
        self.forward = PackedQwen3VL(checkpoint.model, images.image_mean, images.image_std).forward
        self.encoder = InputEncoder(
            checkpoint.processor,
            min_pixels=spec.min_pixels,
            max_pixels=self.fingerprint.max_pixels,
            # Invariant: no input is longer than a batch.
            max_tokens=min(spec.max_tokens, options.batch_tokens),
            instruction=options.instruction,
        )

    def encode(self, item: MultimodalInput) -> EncodedInput:
        """The host's share: token ids and pixels. Safe to call from any thread."""
        return self.encoder.encode(item)

    def embed_encoded(self, items: Sequence[EncodedInput]) -> np.ndarray:
        """The device's share → float32[len(items), dimension], unit length."""
        vectors = np.empty((len(items), self.fingerprint.dimension), dtype=np.float32)
        for batch in plan_batches([item.tokens for item in items], self.batch_tokens):
            vectors[batch] = self._embed_batch([items[index] for index in batch])
        return vectors

    def embed(self, items: Sequence[MultimodalInput]) -> np.ndarray:
        """Both shares → float32[len(items), dimension], unit length. Raises InvalidInput."""
        return self.embed_encoded([self.encode(item) for item in items])

    @torch.inference_mode()
    def _embed_batch(self, items: Sequence[EncodedInput]) -> np.ndarray:
        batch = pack(items)
        states = self.forward(batch, pooled_rows(batch.lengths, self.pooling))
        pooled = pool(states, batch.lengths, self.pooling)
        return unit_vectors(pooled, self.fingerprint.dimension).cpu().numpy()


def check_dimensions(spec: ModelSpec, dimensions: int) -> None:
    """Raise InvalidInput where a model cannot give so many dimensions."""
    if dimensions > spec.dimension:
        raise InvalidInput(
            f"{spec.name} has {spec.dimension} dimensions: it cannot give {dimensions}"
        )


def fingerprint_of(options: EmbedderOptions, precision: str) -> Fingerprint:
    """Everything that changes a vector, without loading the model."""
    spec = registry.find(options.model)
    quantized_vision = options.quantize_vision and precision in ("int8", "nf4")
    return Fingerprint(
        model=spec.name,
        revision=spec.revision,
        precision=f"{precision}+vision" if quantized_vision else precision,
        pooling=options.pooling,
        dimension=options.dimensions or spec.dimension,
        max_pixels=options.max_pixels or spec.max_pixels,
        instruction=options.instruction,
        page_input=spec.page_input,
    )
