"""What a caller may choose about an embedder, and the fingerprint that follows from it.

Light on purpose: nothing here loads a model or imports torch.
"""

from dataclasses import dataclass
from typing import Literal

from cluster.capacity.shapes import Precision
from cluster.core import Fingerprint
from cluster.errors import InvalidInput
from cluster.settings import Settings
from models.registry import ModelSpec, registry

Pooling = Literal["last", "mean"]


@dataclass(frozen=True)
class EmbedderOptions:
    """Choices for one embedder. Zeros and "auto" take the model's own."""

    model: str = "quire-tiny"
    precision: Literal["auto"] | Precision = "auto"
    pooling: Pooling = "last"
    dimensions: int = 0
    max_pixels: int = 0
    instruction: str = "Represent the user's input."
    batch_tokens: int = 16_384
    quantize_vision: bool = False
    device: str = ""

    @classmethod
    def from_settings(cls, settings: Settings, *, has_gpu: bool | None) -> "EmbedderOptions":
        """Return the settings' choices with "auto" resolved: bf16 on a GPU, fp32 on a CPU.

        `has_gpu` None leaves "auto" to the process that loads the model. Raises ModelUnavailable
        or InvalidInput.
        """
        spec = registry.find_spec(settings.model)
        if settings.batch_tokens < spec.max_tokens:
            raise InvalidInput(
                f"batch_tokens must be at least {spec.max_tokens}, the longest input of {spec.name}"
            )
        check_page_input(spec, settings.max_pixels, settings.dimensions)
        return cls(
            model=_portable(settings.model, spec),
            precision=_resolve(settings.precision, has_gpu),
            pooling=settings.pooling,
            dimensions=settings.dimensions,
            max_pixels=settings.max_pixels,
            instruction=settings.instruction,
            batch_tokens=settings.batch_tokens,
            quantize_vision=settings.quantize_vision,
        )

    @property
    def resolved_precision(self) -> Precision:
        """Return the precision, once it is known. Raises InvalidInput while it is "auto"."""
        if self.precision == "auto":
            raise InvalidInput("the precision depends on the device and is not known yet")
        return self.precision

    def fingerprint(self, precision: Precision) -> Fingerprint:
        """Everything that changes a vector. Raises ModelUnavailable or InvalidInput."""
        spec = registry.find_spec(self.model)
        check_page_input(spec, self.max_pixels, self.dimensions)
        with_vision = self.quantize_vision and precision in ("int8", "nf4")
        return Fingerprint(
            model=spec.name,
            revision=spec.revision,
            precision=f"{precision}+vision" if with_vision else precision,
            pooling=self.pooling,
            dimension=self.dimensions or spec.dimension,
            max_pixels=self.max_pixels or spec.max_pixels,
            instruction=self.instruction,
            page_input=spec.page_input,
        )


@dataclass(frozen=True)
class RerankerOptions:
    """Choices for one reranker."""

    model: str = "quire-tiny-reranker"
    precision: Literal["auto"] | Precision = "auto"
    instruction: str = "Given a search query, retrieve relevant candidates that answer the query."
    batch_tokens: int = 16_384
    device: str = ""

    @classmethod
    def from_settings(cls, settings: Settings, *, has_gpu: bool | None) -> "RerankerOptions":
        """Return the settings' choices, with "auto" resolved as for an embedder.

        Raises ModelUnavailable or InvalidInput.
        """
        spec = registry.find_spec(settings.reranker, "reranker")
        if settings.rerank_batch_tokens < spec.max_tokens:
            raise InvalidInput(
                f"rerank_batch_tokens must be at least {spec.max_tokens}, the longest input of "
                f"{spec.name}"
            )
        return cls(
            model=_portable(settings.reranker, spec),
            precision=_resolve(settings.rerank_precision, has_gpu),
            instruction=settings.rerank_instruction,
            batch_tokens=settings.rerank_batch_tokens,
        )


@dataclass(frozen=True)
class LateInteractionOptions:
    """Choices for one late-interaction model."""

    model: str = "quire-tiny-colqwen3"
    batch_tokens: int = 4_096
    device: str = ""

    @classmethod
    def from_settings(cls, settings: Settings) -> "LateInteractionOptions":
        """Return the settings' choices. Raises ModelUnavailable."""
        spec = registry.find_spec(settings.late_interaction, "late-interaction")
        return cls(
            model=_portable(settings.late_interaction, spec),
            batch_tokens=settings.late_interaction_batch_tokens,
        )


def check_page_input(spec: ModelSpec, max_pixels: int, dimensions: int) -> None:
    """Raise InvalidInput where a model cannot take so few pixels or give so many dimensions."""
    if 0 < max_pixels < spec.min_pixels:
        raise InvalidInput(f"max_pixels must be at least {spec.min_pixels}")
    if dimensions > spec.dimension:
        raise InvalidInput(
            f"{spec.name} has {spec.dimension} dimensions: it cannot give {dimensions}"
        )


def _portable(name: str, spec: ModelSpec) -> str:
    """Return a model's name, or its folder as every worker can find it, wherever it runs."""
    return name if name in registry.specs else spec.checkpoint


def _resolve(
    precision: Literal["auto"] | Precision, has_gpu: bool | None
) -> Literal["auto"] | Precision:
    if precision == "auto" and has_gpu is not None:
        return "bf16" if has_gpu else "fp32"
    return precision
