"""Windows of pages to train on, worn as print gets on screens and scanners, and what they show."""

import io
import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from recipes.tiny.images import BLOCK_PX, Grey
from recipes.tiny_colqwen3.boxes import Floats, Ints, TokenBoxes
from recipes.tiny_colqwen3.letters import Letters
from recipes.tiny_colqwen3.pages import PrintedPage, PrintedPages

_MIN_SHARE = 0.12
# A cell that shows this share of a token shows enough of it.
_FULL_SHARE = 0.5
_WINDOWS_PER_PAGE = 4
_PAPER = 255


@dataclass(frozen=True)
class Phase:
    """A stretch of training on windows of `rows` × `columns` cells, `batch` of them a step."""

    rows: int
    columns: int
    batch: int
    steps: int


@dataclass(frozen=True)
class Windows:
    """Images [B, H, W], and which token stands in which cell: parallel arrays of weights in (0, 1].

    Cells are counted through the batch, row by row. `letters` [B · patches, 36] is for the patches
    what `Letters.targets` gives.
    """

    images: Grey
    cells: npt.NDArray[np.int64]
    tokens: Ints
    weights: Floats
    letters: npt.NDArray[np.int8]


def batches(pages: PrintedPages, letters: Letters, phase: Phase, seed: int) -> Iterator[Windows]:
    """Batches made in a thread, a few windows of each page."""
    rng = random.Random(seed)
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Windows]] = []
        for _ in range(phase.steps):
            waiting.append(pool.submit(_batch, pages, letters, phase, rng.random()))
            if len(waiting) > 3:
                yield waiting.pop(0).result()
        for pending in waiting:
            yield pending.result()


def _batch(pages: PrintedPages, letters: Letters, phase: Phase, seed: float) -> Windows:
    rng = random.Random(seed)
    images, cells, tokens, weights, written = [], [], [], [], []
    for number in range(phase.batch):
        if number % _WINDOWS_PER_PAGE == 0:
            page = pages[rng.randrange(len(pages))]
        image, boxes = _window(page, phase, rng)
        images.append(wear(image, rng))
        token, cell, share = _shown(boxes, phase)
        cells.append(cell + number * phase.rows * phase.columns)
        tokens.append(page.tokens.tokens[token])
        weights.append(np.minimum(1.0, share / _FULL_SHARE))
        here = TokenBoxes(page.tokens.tokens, boxes)
        written.append(letters.targets(here, 2 * phase.rows, 2 * phase.columns))
    parts = (cells, tokens, weights, written)
    return Windows(np.stack(images), *(np.concatenate(part) for part in parts))


def _window(page: PrintedPage, phase: Phase, rng: random.Random) -> tuple[Grey, Floats]:
    """The fullest of three windows, at any pixel; boxes relative to it."""
    height, width = phase.rows * BLOCK_PX, phase.columns * BLOCK_PX
    places = [
        (
            rng.randint(0, max(0, page.image.shape[0] - height)),
            rng.randint(0, max(0, page.image.shape[1] - width)),
        )
        for _ in range(3)
    ]
    top, left = max(
        places, key=lambda at: page.image[at[0] : at[0] + height, at[1] : at[1] + width].std()
    )
    part = page.image[top : top + height, left : left + width]
    image = np.full((height, width), _PAPER, np.uint8)
    image[: part.shape[0], : part.shape[1]] = part
    return image, page.tokens.boxes - np.array([left, top] * 2, np.float32)


def _shown(boxes: Floats, phase: Phase) -> tuple[np.ndarray, np.ndarray, Floats]:
    """(token, cell, share of the token's box that is in the cell) where that is not too little."""
    across = _overlap(boxes[:, 0], boxes[:, 2], phase.columns)
    down = _overlap(boxes[:, 1], boxes[:, 3], phase.rows)
    inside = np.flatnonzero((across.sum(1) > 0) & (down.sum(1) > 0))
    shares = down[inside, :, None] * across[inside, None, :]
    shares = shares.reshape(len(inside), phase.rows * phase.columns)
    token, cell = np.nonzero(shares > _MIN_SHARE)
    return inside[token], cell, shares[token, cell]


def _overlap(low: Floats, high: Floats, cells: int) -> Floats:
    """(n, cells): share of each stretch that lies in each cell of a row."""
    starts = np.arange(cells, dtype=np.float32) * BLOCK_PX
    common = np.minimum(high[:, None], starts + BLOCK_PX) - np.maximum(low[:, None], starts)
    share: Floats = common.clip(0) / (high - low).clip(1.0)[:, None]
    return share


def wear(image: Grey, rng: random.Random) -> Grey:
    """Blur, JPEG, noise, weak contrast, a slight turn, light print on dark: each now and then."""
    picture = Image.fromarray(image)
    if rng.random() < 0.1:
        picture = picture.rotate(rng.uniform(-0.7, 0.7), Image.Resampling.BILINEAR, fillcolor=255)
    if rng.random() < 0.15:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    if rng.random() < 0.05:
        picture = ImageOps.invert(picture)
    if rng.random() < 0.15:
        black = rng.uniform(0, 80)
        gain = (rng.uniform(210, 255) - black) / 255
        picture = picture.point(lambda value: value * gain + black)
    if rng.random() < 0.2:
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=rng.randint(40, 85))
        picture = Image.open(encoded)
    pixels = np.asarray(picture)
    if rng.random() < 0.15:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(
            0, rng.uniform(3, 12), pixels.shape
        )
        pixels = (pixels + noise).clip(0, 255).astype(np.uint8)
    return pixels
