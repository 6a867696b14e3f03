"""What a service serves, known without loading it."""

from dataclasses import dataclass
from functools import cached_property

from cluster.settings import Settings
from models.options import EmbedderOptions, LateInteractionOptions, RerankerOptions
from models.registry import ModelSpec, registry


@dataclass(frozen=True)
class ServedModels:
    """The options of each model of a service, and their specs."""

    embedder: EmbedderOptions
    reranker: RerankerOptions
    late_interaction: LateInteractionOptions

    @classmethod
    def from_settings(cls, settings: Settings, *, has_gpu: bool) -> "ServedModels":
        """Return the settings' choices with "auto" resolved.

        `has_gpu`: this Ray has one now. Replicas that ask for a share of a GPU start on no other
        machine, so they have one whenever it comes. Raises ModelUnavailable or InvalidInput.
        """
        embeds_on_gpu = has_gpu or bool(settings.embedder_replicas.gpus)
        reranks_on_gpu = has_gpu or bool(settings.reranker_replicas.gpus)
        return cls(
            EmbedderOptions.from_settings(settings, has_gpu=embeds_on_gpu),
            RerankerOptions.from_settings(settings, has_gpu=reranks_on_gpu),
            LateInteractionOptions.from_settings(settings),
        )

    @cached_property  # a folder's spec is read from its files
    def embedder_spec(self) -> ModelSpec:
        return registry.find_spec(self.embedder.model)

    @cached_property
    def reranker_spec(self) -> ModelSpec:
        return registry.find_spec(self.reranker.model, "reranker")

    @cached_property
    def late_interaction_spec(self) -> ModelSpec:
        return registry.find_spec(self.late_interaction.model, "late-interaction")
