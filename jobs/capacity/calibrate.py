"""Calibrate: run an embedder on this machine's device and record its speed and memory.

A grid of page sizes, batch budgets and precisions. Where the checkpoint is missing, random
weights of its shape do: neither speed nor memory depend on them.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from cluster.capacity.fit import BATCH_TOKENS
from cluster.capacity.formulas import language_bytes, page_flops, quantisation_bytes, vision_bytes
from cluster.capacity.profile import Measurement, Profile, load_profile
from cluster.capacity.shapes import Precision
from cluster.capacity.workload import Numbers, Precisions
from cluster.errors import InvalidInput, OutOfMemory
from cluster.hardware import CPU, accelerators, kind_of
from cluster.settings import GIB
from models.engine.budget import TokenBudget
from models.engine.random_weights import SHAPES, write_random_checkpoint
from models.images import grid_size
from models.inputs import MultimodalInput
from models.options import EmbedderOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from models.registry import ModelSpec, registry

ROUNDS = 3
MAX_CPU_PAGES = 6
PAGE_RATIO = 297 / 210  # an upright A4 page


class CalibrationRequest(BaseModel):
    """What to measure; what is empty suits the device. `pages` of each point; 0: two batches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    random_weights: Literal["", "2b", "8b"] = ""
    precisions: Precisions = ()
    pixels: Numbers = ()
    batch_tokens: Numbers = ()
    pages: int = 0


def calibrate_device(
    request: CalibrationRequest, file: Path, say: Callable[[str], None]
) -> Profile:
    """Measure, and add what was measured to the profile in a file. `say` gets a line a point.

    Raises InvalidInput or ModelUnavailable.
    """
    profile = load_profile(file)
    kind = device_kind()
    if kind not in accelerators():
        raise InvalidInput(
            f"{kind} is not in the table of accelerators: plans could not use what is measured"
        )
    with _checkpoint(request) as model:
        for precision in request.precisions or default_precisions():
            measurements = tuple(_measured(request, model, precision, kind, say))
            profile = profile.with_new(measurements)
            profile.save(file)  # a grid takes its time: what is measured is kept
    return profile


def device_kind() -> str:
    """Return the kind of this machine's device, as cluster/hardware.py names it."""
    return kind_of(torch.cuda.get_device_name()) if torch.cuda.is_available() else CPU


def default_precisions() -> tuple[Precision, ...]:
    return ("bf16", "int8", "nf4") if torch.cuda.is_available() else ("fp32",)


@contextmanager
def _checkpoint(request: CalibrationRequest) -> Iterator[str]:
    """The model's name, or a folder of random weights while the context is open."""
    if not request.random_weights:
        yield request.model
        return
    with tempfile.TemporaryDirectory(prefix="quire-") as folder:
        write_random_checkpoint(SHAPES[request.random_weights], Path(folder))
        yield folder


def _measured(
    request: CalibrationRequest,
    model: str,
    precision: Precision,
    kind: str,
    say: Callable[[str], None],
) -> Iterator[Measurement]:
    """Yield the points of one precision that fit."""
    spec = registry.find_spec(model)
    pixels = request.pixels or default_pixels(spec)
    wanted = request.batch_tokens or (BATCH_TOKENS if torch.cuda.is_available() else (0,))
    budgets = sorted({max(each, spec.max_tokens) for each in wanted})
    options = EmbedderOptions(
        model=model, precision=precision, max_pixels=max(pixels), batch_tokens=budgets[-1]
    )
    try:
        embedder = Qwen3VLEmbedder(options)
    except OutOfMemory as error:
        say(f"{spec.name} {precision}: {error}")
        return
    for size, budget in product(pixels, budgets):
        point = f"{spec.name} {precision}, {size:,} px, {budget:,} tokens"
        try:
            measurement = _measure(embedder, kind, size, budget, request.pages)
        except OutOfMemory:
            say(f"{point}: does not fit")
            continue
        say(
            f"{point}: {measurement.pages_per_s:.2f} pages/s, "
            f"{measurement.efficiency:.0%} of the peak"
            + (f", {measurement.peak_bytes / GIB:.2f} GiB" if measurement.peak_bytes else "")
        )
        yield measurement


def default_pixels(spec: ModelSpec) -> tuple[int, ...]:
    """Page sizes around a model's own budget; on a CPU that alone, as it takes its time."""
    if not torch.cuda.is_available():
        return (spec.max_pixels,)
    return (spec.max_pixels // 2, spec.max_pixels, spec.max_pixels * 4 // 3)


def _measure(
    embedder: Qwen3VLEmbedder, kind: str, pixels: int, budget: int, pages: int
) -> Measurement:
    page = embedder.encode(_page(pixels))
    in_batch = budget // page.tokens
    items = [page] * (pages or (2 * in_batch if torch.cuda.is_available() else MAX_CPU_PAGES))
    embedder.budget = TokenBudget(embedder.spec.name, budget)
    embedder.embed_encoded(items)  # warms up
    base, peak = _allocated(), 0
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        embedder.embed_encoded(items)  # ends with its vectors on the host
        times.append(time.perf_counter() - started)
        peak = max(peak, _peak())
    if embedder.budget.halved:
        raise OutOfMemory(f"batches of {budget} tokens do not fit")
    pages_per_s = len(items) / median(times)
    shape = embedder.spec.shape
    visual = len(page.visual_index)
    work = page_flops(shape, visual * shape.vision.token_px**2, page.tokens - visual)
    size = min(in_batch, len(items))
    precision = embedder.fingerprint.precision
    wide, patches = 4 if precision == "fp32" else 2, visual * shape.vision.merge**2
    computed = max(
        vision_bytes(shape, size * patches, size * page.tokens, item_bytes=wide),
        language_bytes(shape, size * visual, size * page.tokens, item_bytes=wide),
    )
    # What bitsandbytes holds beside is a part of its own in the formula.
    peak_bytes = peak - base - quantisation_bytes(shape, precision, size * page.tokens)
    return Measurement(
        gpu=kind,
        model=shape.size,
        precision=precision,
        pixels=pixels,
        batch_tokens=budget,
        pages_per_s=pages_per_s,
        peak_bytes=peak,
        efficiency=pages_per_s * work / (accelerators()[kind].tflops(precision) * 1e12),
        memory_ratio=max(0, peak_bytes) / computed if peak else 0.0,
    )


def _page(pixels: int) -> MultimodalInput:
    """Return a page of noise: speed does not depend on what it shows."""
    width = (pixels / PAGE_RATIO) ** 0.5
    size = grid_size(width, width * PAGE_RATIO, min_pixels=pixels // 2, max_pixels=pixels)
    shape = (size[1], size[0], 3)
    return MultimodalInput(images=(np.random.default_rng(0).integers(0, 256, shape, np.uint8),))


def _allocated() -> int:
    """Bytes that tensors hold on the GPU; the peak counts from here."""
    if not torch.cuda.is_available():
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
