"""The one table of deployments: what `quire serve` runs beside the router, and how each scales.

The application, its readiness, pods and plan settings, reserved CPUs, launch checks and the tests
loop over DEPLOYMENTS. A new deployment is a row here and a class in serve/deployments/; where
people shall set its scaling, also a field of Settings.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cluster.plan import Role

if TYPE_CHECKING:
    from cluster.settings import Settings


class Scaling(BaseModel):
    """How one deployment of `quire serve` scales, and how many requests may wait for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_replicas: int = Field(1, ge=0, description="Fewest replicas; 0 lets it stop when idle.")
    max_replicas: int = Field(1, ge=1, description="Most replicas.")
    target_ongoing_requests: float = Field(
        8, gt=0, description="Requests in progress a replica, on average, that scaling aims at."
    )
    upscale_delay_s: float = Field(5, ge=0, description="Load must last this long to scale up.")
    downscale_delay_s: float = Field(60, ge=0, description="Idleness that scales down.")
    cpus: float = Field(1, ge=0, description="CPUs that Ray reserves for a replica.")
    max_ongoing_requests: int = Field(
        256, ge=1, description="Requests that a replica works on or keeps waiting."
    )
    max_queued_requests: int = Field(
        256, ge=1, description="Requests that wait for a replica; more are refused with 503."
    )

    @model_validator(mode="after")
    def _max_is_not_below_min(self) -> "Scaling":
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas must not be below min_replicas")
        return self


class DeviceScaling(Scaling):
    """The same for a deployment that holds a model."""

    gpus: float | None = Field(
        None,
        ge=0,
        le=8,
        description="Share of a GPU for a replica; by default chosen by the GPUs that there are.",
    )
    memory_fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of a GPU's memory that a replica may take; by default that of its "
        "chosen share, all of it where `gpus` is set.",
    )
    gpu_kind: str = Field(
        "", description="Only on nodes of Ray whose label quire.dev/gpu is this; by default any."
    )

    @property
    def threads(self) -> int:
        """Threads of a replica on a CPU: as many as it reserves."""
        return max(1, math.ceil(self.cpus))


class ModelScaling(DeviceScaling):
    """The same for one that computes what waits in batches."""

    batch_tokens: int = Field(
        4096, ge=1, description="Tokens of waiting requests that are computed together."
    )
    max_wait_s: float = Field(
        5, gt=0, description="A request that would wait longer for its batch is refused with 503."
    )


@dataclass(frozen=True)
class DeploymentSpec:
    """One deployment of models.

    `name`: Ray Serve's, also in metrics. `title`: what people are told. `role`: a plan's.
    `class_path`: module:class, imported where the application is built. `settings_field`: the
    setting that scales it; without such a field of Settings, `default` holds.
    """

    name: str
    title: str
    role: Role | str
    class_path: str
    settings_field: str
    default: DeviceScaling

    def scaling(self, settings: "Settings") -> DeviceScaling:
        """Return how it scales by these settings."""
        scaling: DeviceScaling = getattr(settings, self.settings_field, self.default)
        return scaling

    def may_sleep(self, settings: "Settings") -> bool:
        """True where its replicas start with the first request and stop when idle."""
        return self.scaling(settings).min_replicas == 0


_ON_REQUEST = DeviceScaling(
    min_replicas=0, target_ongoing_requests=2, downscale_delay_s=300, gpus=0
)
DEPLOYMENTS: list[DeploymentSpec] = [
    DeploymentSpec(
        name="embedder",
        title="embedder",
        role="embedder",
        class_path="serve.deployments.embedder:EmbedderDeployment",
        settings_field="embedder_replicas",
        default=ModelScaling(),
    ),
    DeploymentSpec(
        name="reranker",
        title="reranker",
        role="reranker",
        class_path="serve.deployments.reranker:RerankerDeployment",
        settings_field="reranker_replicas",
        default=ModelScaling(target_ongoing_requests=2, cpus=2),
    ),
    DeploymentSpec(
        name="late_interaction",
        title="late interaction",
        role="late-interaction",
        class_path="serve.deployments.late_interaction:LateInteractionDeployment",
        settings_field="late_interaction_replicas",
        default=_ON_REQUEST,
    ),
    DeploymentSpec(
        name="quality",
        title="quality predictor",
        role="quality",
        class_path="serve.deployments.ocr_quality:QualityDeployment",
        settings_field="quality_replicas",
        default=_ON_REQUEST,
    ),
]

ROUTER_SCALING = Scaling(target_ongoing_requests=64)
INDEXER_CPUS = 0.5  # of the one replica that runs uploads' ingests


def find_deployment(name: str) -> DeploymentSpec:
    """Return a deployment by its name. Raises KeyError."""
    return {spec.name: spec for spec in DEPLOYMENTS}[name]


def deployment_of(role: str) -> DeploymentSpec | None:
    """Return the deployment of a plan's role; None where none has it."""
    return next((spec for spec in DEPLOYMENTS if spec.role == role), None)
