"""What `quire calibrate` measured: speed and memory of a model on a card, preferred to formulas."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cluster.errors import InvalidInput

PROFILE_FILE = "calibration.json"  # in the data folder


@dataclass(frozen=True)
class Measurement:
    """One point of the grid. `peak_bytes`: the most that the allocator held, 0 on a CPU.

    `model` is the size of its shape: what was measured of an embedder holds for a reranker.
    `efficiency`: share of the card's peak (cluster/hardware.py) that its arithmetic reached.
    `memory_ratio`: activations that were measured to those of the formula, 0 where unknown.
    """

    gpu: str
    model: str
    precision: str
    pixels: int
    batch_tokens: int
    pages_per_s: float
    peak_bytes: int
    efficiency: float
    memory_ratio: float


@dataclass(frozen=True)
class Profile:
    """Measurements of several cards and models."""

    measurements: tuple[Measurement, ...] = ()

    def find_measurements(self, gpu: str, model: str, precision: str) -> list[Measurement]:
        """Return the measurements of this model on such a card."""
        wanted = (gpu, model, precision)
        return [
            each for each in self.measurements if (each.gpu, each.model, each.precision) == wanted
        ]

    def efficiency(self, gpu: str, model: str, precision: str, pixels: int) -> float | None:
        """Share of the peak at the measured page size that is nearest; its best batch budget."""
        measurements = self.find_measurements(gpu, model, precision)
        if not measurements:
            return None
        nearest = min(measurements, key=lambda each: abs(math.log(each.pixels / pixels))).pixels
        return max(each.efficiency for each in measurements if each.pixels == nearest)

    def memory_ratio(self, gpu: str, model: str, precision: str) -> float:
        """Measured activations to computed ones, the largest of the grid; 1 where unknown."""
        ratios = [each.memory_ratio for each in self.find_measurements(gpu, model, precision)]
        return max(ratios, default=0.0) or 1.0

    def with_new(self, new: tuple[Measurement, ...]) -> "Profile":
        """These and new ones, which take the place of older ones of the same point."""
        merged = {_point(each): each for each in (*self.measurements, *new)}
        return Profile(tuple(merged.values()))

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([asdict(each) for each in self.measurements], indent=1))


def _point(each: Measurement) -> tuple[str, str, str, int, int]:
    return each.gpu, each.model, each.precision, each.pixels, each.batch_tokens


def load_profile(file: Path) -> Profile:
    """Return the profile in a file; an empty one where there is none. Raises InvalidInput."""
    if not file.exists():
        return Profile()
    try:
        measurements = TypeAdapter(tuple[Measurement, ...]).validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise InvalidInput(
            f"the profile {file} is broken: delete it and run `quire calibrate` again"
        ) from error
    return Profile(measurements)
