"""Page images as scanners, faxes, cameras and years leave them: seeded, and every amount recorded.

A variant of a page is a few effects, each with one severity in [0, 1], applied in the order in
which they happen to paper: ink, paper, placement, lens, sampling, sensor, compression. The same
image and seed give the same pixels.
"""

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

Gray = np.ndarray  # float32[height, width], 0 black to 255 white
WHITE = 255.0
MAX_EFFECTS = 4
MIN_SIDE_PX = 64  # below this an image is not scaled down any further


@dataclass(frozen=True)
class Effect:
    """One effect with its severity in [0, 1]."""

    name: str
    severity: float


def plan_effects(seed: int) -> list[Effect]:
    """Draw one to four effects by a seed. Light damage is more frequent than heavy damage."""
    rng = np.random.default_rng(seed)
    count = int(rng.choice([1, 2, 3, MAX_EFFECTS], p=[0.25, 0.35, 0.25, 0.15]))
    weights = np.array([weight for weight, _ in EFFECTS.values()])
    chosen = rng.choice(list(EFFECTS), size=count, replace=False, p=weights / weights.sum())
    overall = (0.05 + 0.9 * rng.uniform() ** 1.5) / count**0.35  # together they add up
    severity = {name: float(np.clip(overall * rng.uniform(0.5, 1.2), 0.02, 1)) for name in chosen}
    return [Effect(name, round(severity[name], 3)) for name in EFFECTS if name in severity]


def degrade(gray: np.ndarray, effects: list[Effect], seed: int) -> np.ndarray:
    """Apply effects to uint8[height, width] → uint8[height', width'].

    Only "low_resolution" and "skew" change the size. Raises KeyError for an unknown effect.
    """
    rng = np.random.default_rng([seed, 1])
    image = gray.astype(np.float32)
    for effect in effects:
        image = EFFECTS[effect.name][1](image, effect.severity, rng)
    return to_uint8(image)


def as_fields(effects: list[Effect]) -> list[dict[str, object]]:
    """Effects as plain values, for a row of labels."""
    return [asdict(effect) for effect in effects]


def to_uint8(image: Gray) -> np.ndarray:
    """Round and clip to uint8."""
    return np.clip(image + 0.5, 0, WHITE).astype(np.uint8)


def faint_ink(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Ink loses its black, unevenly: a worn ribbon, an old thermal print."""
    paper = float(np.percentile(image, 95))
    keep = 1 - severity * rng.uniform(0.55, 0.92)
    strength = keep * (1 + 0.6 * severity * _clouds(image.shape, rng, 6))
    if rng.random() < 0.4:  # a printing head with weak columns
        weak = ndimage.gaussian_filter1d(rng.standard_normal(image.shape[1]), 4)
        strength = strength * (1 - 0.5 * severity * np.clip(weak / (weak.std() + 1e-6), 0, 1.5))
    return (paper - (paper - image) * np.clip(strength, 0.02, 1)).astype(np.float32)


def ink_spread(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Strokes run together, or wear away, by up to two pixels."""
    sigma = 0.4 + 1.1 * severity
    soft = ndimage.gaussian_filter(image, sigma)
    threshold = 128 + (1 if rng.random() < 0.5 else -1) * (30 + 70 * severity)
    return np.asarray(np.clip((soft - threshold) * 4 + 128, 0, WHITE), np.float32)


def bleed_through(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Let the other side shine through: the page mirrored, turned over, soft and pale."""
    other = image[:, ::-1] if rng.random() < 0.6 else image[::-1, ::-1]
    other = np.roll(other, (int(rng.integers(-40, 40)), int(rng.integers(-40, 40))), (0, 1))
    other = ndimage.gaussian_filter(other, 0.8 + rng.uniform(0, 1.2))
    shine = severity * rng.uniform(0.35, 0.75)
    return np.asarray(np.minimum(image, WHITE - (WHITE - other) * shine), np.float32)


def stains(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Coffee rings and dirty spots that darken ink and paper alike."""
    height, width = image.shape
    rows, columns = np.ogrid[:height, :width]
    out = image.copy()
    for _ in range(1 + int(rng.integers(0, 2 + round(5 * severity)))):
        radius = rng.uniform(0.04, 0.09 + 0.2 * severity) * min(height, width)
        at = np.hypot(rows - rng.uniform(0, height), (columns - rng.uniform(0, width)))
        edge = np.exp(-(((at - radius) / (0.12 * radius + 1)) ** 2))
        inside = 1 / (1 + np.exp(np.clip((at - radius) / (0.05 * radius + 1), -30, 30)))
        depth = severity * rng.uniform(0.3, 0.85)
        out *= 1 - depth * np.clip(0.6 * inside + rng.uniform(0, 0.6) * edge, 0, 1)
    return out.astype(np.float32)


def fold(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Creases: a dark line beside a bright one, with ink broken along it."""
    out = image.copy()
    for _ in range(1 + int(rng.integers(0, 2 + round(2 * severity)))):
        axis = int(rng.integers(0, 2))
        length = image.shape[axis]
        along = np.arange(length) - rng.uniform(0.1, 0.9) * length
        reach = 2 + 10 * severity
        dark = np.exp(-((along / reach) ** 2))
        worn = np.exp(-((along / (1 + 2.5 * severity)) ** 2))
        shape = (length, 1) if axis == 0 else (1, length)
        out = out * (1 - 0.55 * severity * dark.reshape(shape))
        out = out + (WHITE - out) * (0.9 * severity * worn.reshape(shape))
    return out.astype(np.float32)


def shadow(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Uneven light: a slope across the page, soft clouds, or the dark gutter of a book."""
    height, width = image.shape
    angle = rng.uniform(0, 2 * np.pi)
    rows = np.linspace(-0.5, 0.5, height)[:, None] * np.sin(angle)
    columns = np.linspace(-0.5, 0.5, width)[None] * np.cos(angle)
    slope = 0.5 + (rows + columns) / (abs(np.sin(angle)) + abs(np.cos(angle)))
    if rng.random() < 0.35:
        slope = slope ** rng.uniform(2, 5)  # falls off near one edge only
    light = 1 - severity * (0.7 * slope + 0.25 * np.abs(_clouds(image.shape, rng, 3)))
    return np.asarray(image * np.clip(light, 0.06, 1), np.float32)


def skew(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Turned by up to six degrees; the page grows so that nothing is cut off."""
    angle = (1 if rng.random() < 0.5 else -1) * 6 * severity**1.5
    turned = Image.fromarray(to_uint8(image)).rotate(
        angle, Image.Resampling.BICUBIC, expand=True, fillcolor=int(np.percentile(image, 90))
    )
    return np.asarray(turned, np.float32)


def warp(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Paper that does not lie flat: lines bend by a few pixels."""
    height, width = image.shape
    reach = 1 + 9 * severity
    bend = reach * ndimage.gaussian_filter(rng.standard_normal(width), width / 8, mode="wrap")
    bend /= np.abs(bend).max() / reach + 1e-6
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    moved = ndimage.map_coordinates(image, [rows + bend[None], columns], order=1, mode="nearest")
    return np.asarray(moved, np.float32)


def blur(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Out of focus, or moved while the shutter was open."""
    if rng.random() < 0.75:
        return np.asarray(ndimage.gaussian_filter(image, 0.4 + 2.2 * severity), np.float32)
    length = 2 + round(8 * severity)
    return np.asarray(ndimage.uniform_filter1d(image, length, axis=int(rng.integers(2))))


def fax(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Scanned to black and white by a threshold, with the specks that come with it."""
    noise = rng.standard_normal(image.shape).astype(np.float32) * (8 + 45 * severity)
    noise = ndimage.gaussian_filter(noise, rng.uniform(0.3, 0.9))
    paper = float(np.percentile(image, 95))
    ink = float(np.percentile(image, 1))
    level = ink + (paper - ink) * np.clip(rng.normal(0.55, 0.05 + 0.13 * severity), 0.15, 0.92)
    out = np.where(image + noise < level, 0.0, WHITE)
    specks = rng.random(image.shape) < 0.002 * severity**2 * rng.uniform(0.2, 3)
    grown = ndimage.binary_dilation(specks, iterations=1 + int(rng.integers(0, 2)))
    return np.where(grown, WHITE - out, out).astype(np.float32)


def low_resolution(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Sampled down to between 0.9 and 0.3 of its size."""
    height, width = image.shape
    scale = max(0.92 - 0.62 * severity, MIN_SIDE_PX / min(height, width))
    if scale >= 1:
        return image
    size = (round(width * scale), round(height * scale))
    kinds = (Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)
    method = kinds[int(rng.integers(len(kinds)))]
    small = Image.fromarray(to_uint8(image)).resize(size, method)
    if rng.random() < 0.25:  # stored large again, as e-mail and office programs do
        small = small.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(small, np.float32)


def noise(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Grain of a sensor, fine or coarse, and sometimes pepper and salt."""
    grain = rng.standard_normal(image.shape).astype(np.float32)
    if rng.random() < 0.5:
        grain = ndimage.gaussian_filter(grain, rng.uniform(0.5, 1.2))
        grain /= grain.std() + 1e-6
    out = image + grain * (3 + 42 * severity)
    if rng.random() < 0.3:
        hit = rng.random(image.shape)
        share = 0.03 * severity
        out = np.where(hit < share, 0.0, np.where(hit > 1 - share, WHITE, out))
    return np.asarray(np.clip(out, 0, WHITE), np.float32)


def low_contrast(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """Black becomes grey and white becomes grey; sometimes too light, sometimes too dark."""
    span = 1 - 0.8 * severity
    floor = rng.uniform(0, 1 - span) * WHITE
    gamma = np.exp(rng.uniform(-0.7, 0.7) * severity)
    shade = (np.clip(image, 0, WHITE) / WHITE) ** gamma
    return np.asarray(floor + span * WHITE * shade, np.float32)


def jpeg(image: Gray, severity: float, rng: np.random.Generator) -> Gray:
    """JPEG at quality 85 down to 5."""
    file = io.BytesIO()
    quality = round(85 * (1 - severity) ** 1.2 + 5)
    Image.fromarray(to_uint8(image)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float32)


def _clouds(shape: tuple[int, ...], rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise of mean 0 and about unit size, float32[height, width]."""
    coarse = rng.standard_normal((cells + 2, cells + 2)).astype(np.float32)
    size = (shape[1], shape[0])
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float32)


# In the order of their application, each with how often it is drawn.
EFFECTS: dict[str, tuple[float, Callable[[Gray, float, np.random.Generator], Gray]]] = {
    "faint_ink": (1.5, faint_ink),
    "ink_spread": (1.0, ink_spread),
    "bleed_through": (0.6, bleed_through),
    "stains": (0.7, stains),
    "fold": (0.7, fold),
    "shadow": (0.9, shadow),
    "warp": (0.4, warp),
    "skew": (0.8, skew),
    "blur": (1.3, blur),
    "fax": (1.2, fax),
    "low_resolution": (1.6, low_resolution),
    "noise": (1.2, noise),
    "low_contrast": (0.7, low_contrast),
    "jpeg": (1.1, jpeg),
}
