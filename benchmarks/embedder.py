"""The embedder against plain transformers on pages of mixed sizes.

    python -m benchmarks.embedder [--model NAME] [--items 24] [--random-weights 2b|8b]

The same inputs (a generated page image and some of its text) are embedded three ways: ours, plain
transformers one at a time, and plain transformers in right-padded batches of 8 in random order.
First the vectors must agree; then the three are timed in turn, from images and text to vectors,
and the medians compared, so that a busy machine slows all of them alike.

On CUDA pages of several sizes follow under several batch budgets: pages/s of the device alone and
with the host's share, TFLOP/s of the model's arithmetic (cluster/capacity/formulas.py), and the
share of the chip's peak. `--random-weights` builds a checkpoint of the real shape in a temporary
folder, for a machine without the weights, as speed does not depend on them; tokenizer and
processor are quire-tiny's, whose ids all lie within the real vocabulary.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from benchmarks.reference import PlainEmbedder
from cluster.capacity.formulas import page_flops
from cluster.hardware import accelerators, kind_of
from models.engine.budget import TokenBudget
from models.engine.loading import checkpoint_folder
from models.engine.random_weights import SHAPES, write_random_checkpoint
from models.images import grid_size
from models.inputs import MultimodalInput
from models.options import EmbedderOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from models.registry import registry

PADDED_BATCH = 8
ROUNDS = 3
MIN_COSINE = {"fp32": 0.9999, "bf16": 0.99}
PAGE_SHAPES = ((210, 297), (297, 210), (216, 279), (160, 90), (80, 220), (148, 148))
SWEEP_BATCH_TOKENS = (4_096, 8_192, 16_384, 32_768)
SWEEP_PIXELS = ((640, 832), (1024, 1024), (1024, 1344))
SWEEP_PAGES = 64
WORDS = ["torque", "gear", "invoice", "of", "the", "page", "figure", "請求書", "合計", "영수증"]


@dataclass(frozen=True)
class Variant:
    """One way to embed the inputs, and the seconds of each round."""

    name: str
    padding: float
    embed: Callable[[], np.ndarray]
    times_s: list[float] = field(default_factory=list)


def mixed_pages(count: int, max_pixels: int) -> list[MultimodalInput]:
    """Pages of several shapes and sizes on the patch grid, with 0 to 1,200 characters of text."""
    rng = random.Random(0)
    return [
        page_input(
            *rng.choice(PAGE_SHAPES),
            int(max_pixels * rng.uniform(0.25, 1)),
            rng.randrange(200),
            rng,
        )
        for _ in range(count)
    ]


def page_input(
    width: float, height: float, pixels: int, words: int, rng: random.Random
) -> MultimodalInput:
    """A drawn page of these proportions and about so many pixels, with so many words of text."""
    scale = (pixels / (width * height)) ** 0.5
    size = grid_size(width * scale, height * scale, min_pixels=4 * 32 * 32, max_pixels=pixels)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for top in range(16, size[1] - 16, 14):
        right = rng.randint(size[0] // 2, size[0] - 16)
        draw.rectangle((16, top, max(16, right), top + 5), fill=(rng.randrange(120),) * 3)
    text = " ".join(rng.choices(WORDS, k=words))
    return MultimodalInput(text=text, images=(np.asarray(image),))


def full_page(embedder: Qwen3VLEmbedder, seed: int) -> MultimodalInput:
    """An A4 page at the whole pixel budget with as much text as a page row takes."""
    rng = random.Random(seed)
    chars = embedder.spec.page_chars
    page = page_input(210, 297, embedder.fingerprint.max_pixels, chars, rng)
    return MultimodalInput(text=page.text[:chars], images=page.images)


def compare(
    embedder: Qwen3VLEmbedder, plain: PlainEmbedder, items: list[MultimodalInput]
) -> list[Variant]:
    """Check that the vectors agree, then time the three ways in turn. Raises SystemExit."""
    variants = [
        Variant("plain, one at a time", 0.0, lambda: plain.embed_padded(items, 1)),
        Variant(
            f"plain, padded batches of {PADDED_BATCH}",
            plain.padding_share(items, PADDED_BATCH),
            lambda: plain.embed_padded(items, PADDED_BATCH),
        ),
        Variant("ours, packed", 0.0, lambda: embedder.embed(items)),
    ]
    expected = variants[0].embed()
    least = MIN_COSINE[embedder.fingerprint.precision]
    for variant in variants[1:]:
        cosine = float((expected * variant.embed()).sum(1).min())
        if cosine < least:
            raise SystemExit(f"{variant.name}: cosine {cosine:.6f} is below {least}")
    for _ in range(ROUNDS):
        for variant in variants:
            started = time.perf_counter()
            variant.embed()
            variant.times_s.append(time.perf_counter() - started)
    return variants


def comparison_table(variants: list[Variant], items: int, title: str) -> Table:
    table = Table(title=title)
    for name in ("embedder", "items/s", "ratio to one at a time", "padding"):
        table.add_column(name, justify="left" if name == "embedder" else "right")
    alone = median(variants[0].times_s)
    for variant in variants:
        seconds = median(variant.times_s)
        table.add_row(
            variant.name,
            f"{items / seconds:.2f}",
            f"{alone / seconds:.2f}",
            f"{variant.padding:.1%}",
        )
    return table


def sweep_table(embedder: Qwen3VLEmbedder, chip: str) -> Table:
    """Pages of one size after another under one batch budget after another, on the device."""
    card = accelerators().get(kind_of(chip))
    peak = card.bf16_tflops if card else None
    table = Table(title=f"{SWEEP_PAGES} pages on {chip}")
    for name in ("pixels", "batch tokens", "pages/s", "with host", "TFLOP/s", "of peak"):
        table.add_column(name, justify="right")
    for width, height in SWEEP_PIXELS:
        rng = random.Random(0)
        pages = [page_input(width, height, width * height, 0, rng) for _ in range(SWEEP_PAGES)]
        encoded = [embedder.encode(page) for page in pages]
        visual = len(encoded[0].visual_index)
        others = encoded[0].tokens - visual
        tflop = page_flops(embedder.spec.shape, width * height, others) * SWEEP_PAGES / 1e12
        for budget in SWEEP_BATCH_TOKENS:
            embedder.budget = TokenBudget(embedder.spec.name, budget)
            device_s = _median_s(partial(embedder.embed_encoded, encoded))
            whole_s = _median_s(partial(embedder.embed, pages))
            table.add_row(
                f"{width}×{height}",
                f"{budget:,}",
                f"{SWEEP_PAGES / device_s:.1f}",
                f"{SWEEP_PAGES / whole_s:.1f}",
                f"{tflop / device_s:.1f}",
                f"{tflop / device_s / peak:.0%}" if peak else "?",
            )
    return table


def _median_s(call: Callable[[], object]) -> float:
    """Seconds of a call that ends with its result on the host; the first one warms up."""
    times = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return median(times[1:])


def measure(model: str, items: int, console: Console) -> None:
    """Print the comparison, and on CUDA the sweep."""
    has_gpu = torch.cuda.is_available()
    spec = registry.find_spec(model)
    largest = max(width * height for width, height in SWEEP_PIXELS)
    embedder = Qwen3VLEmbedder(EmbedderOptions(model=model, max_pixels=largest if has_gpu else 0))
    budget = (
        spec.max_pixels if spec.max_pixels < largest else SWEEP_PIXELS[0][0] * SWEEP_PIXELS[0][1]
    )
    inputs = mixed_pages(items, budget)
    plain = PlainEmbedder.from_folder(
        checkpoint_folder(spec.checkpoint, spec.revision),
        dtype=torch.bfloat16 if has_gpu else torch.float32,
        device="cuda" if has_gpu else "cpu",
    )
    variants = compare(embedder, plain, inputs)
    device = torch.cuda.get_device_name() if has_gpu else f"{torch.get_num_threads()} CPU threads"
    title = f"{items} mixed pages, {spec.name}, {embedder.fingerprint.precision}, {device}"
    console.print(comparison_table(variants, items, title))
    full = [full_page(embedder, seed) for seed in range(items)]
    seconds = _median_s(lambda: embedder.embed(full))
    console.print(
        f"full pages (image, {spec.page_chars or 'no'} characters of text, "
        f"{embedder.encode(full[0]).tokens} tokens): {items / seconds:.1f} pages/s"
    )
    if has_gpu:
        del plain, variants
        console.print(sweep_table(embedder, device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="quire-tiny")
    parser.add_argument("--items", type=int, default=24, help="mixed pages to compare on")
    parser.add_argument("--random-weights", choices=SHAPES, help="a real shape, random weights")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quire-benchmark-") as folder:
        if args.random_weights:
            write_random_checkpoint(SHAPES[args.random_weights], Path(folder))
        measure(folder if args.random_weights else args.model, args.items, Console())


if __name__ == "__main__":
    main()
