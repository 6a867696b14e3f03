"""Where on a page the answer is: maps of similarity, the regions that stand out, and a picture.

Three methods: words of the text layer that the query names; late interaction, which compares each
query token with each cell of the page; and the embedder, whose token states at the page's visual
tokens are compared with the query's vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import ndimage

from cluster.pages.vectors import Box, Tile
from cluster.pages.words import PageWord

Method = Literal["words", "late-interaction", "embedder"]
Seen = Literal[Method, "quality"]
STANDS_OUT = 0.8  # of the strongest cell: what joins it in a region
MAX_REGIONS = 5
STRIP = (1, 5)  # rows and columns of cells in which the words of a phrase are looked for
NEAR = 1.5  # of a line's height: how far apart words of one region may stand
ALIKE = 1e-6  # a page whose cells differ by less is alike everywhere


@dataclass(frozen=True)
class Region:
    """A box in shares of the page's sides, a score from 0 to 1, and the words it is about."""

    box: Box
    score: float
    text: str = ""


@dataclass(frozen=True)
class Evidence:
    """What stands out on a page, and by which method: regions, strongest first, and a map.

    heat float32[rows, columns] from 0 to 1; tokens: the strongest region of each query token.
    """

    method: Seen
    regions: list[Region] = field(default_factory=list)
    heat: np.ndarray | None = None
    tokens: list[Region] = field(default_factory=list)


def of_words(words: Sequence[PageWord]) -> Evidence:
    """Join matched words: neighbours on a line are one region; it counts by its different words."""
    runs: list[list[PageWord]] = []
    for word in words:
        if runs and _is_next(runs[-1][-1], word):
            runs[-1].append(word)
        else:
            runs.append([word])
    most = max((_kinds(run) for run in runs), default=1)
    regions = [
        Region(_around(run), _kinds(run) / most, " ".join(word.text for word in run))
        for run in runs
    ]
    return Evidence("words", sorted(regions, key=lambda region: -region.score))


def of_tokens(tokens: Sequence[str], similarities: np.ndarray, tiles: Sequence[Tile]) -> Evidence:
    """Late interaction: similarities float32[T, N] of query tokens to cells.

    heat = the MaxSim that a strip of cells around each cell would score by itself: Σ over tokens of
    the largest max(0, s − mean of s over the page) within the strip. A token that is everywhere
    alike says nothing, and the words of a phrase, which stand beside each other, add up.
    (benchmarks/evidence.py measures where the strongest region falls.)
    """
    maps = np.stack([_painted(row, tiles) for row in similarities])
    excess = np.maximum(0, maps - maps.mean(axis=(1, 2), keepdims=True))
    heat = _unit(ndimage.maximum_filter(excess, size=(1, *STRIP)).sum(axis=0))
    token_regions = [
        Region(
            _cell_box(np.unravel_index(int(found.argmax()), found.shape), found.shape),
            float(found.max()),
            token,
        )
        for token, found in zip(tokens, excess, strict=True)
    ]
    return Evidence("late-interaction", _regions(heat), heat, token_regions)


def of_states(similarities: np.ndarray) -> Evidence:
    """The embedder: the query vector's similarity to each visual token, float32[rows, columns]."""
    heat = _unit(np.maximum(0, similarities - similarities.mean()))
    return Evidence("embedder", _regions(heat), heat)


def of_contributions(contribution: np.ndarray) -> Evidence:
    """Map what makes a page hard to read, float32[rows, columns]: what each adds to its CER."""
    heat = _unit(np.maximum(0, contribution))
    return Evidence("quality", _regions(heat), heat)


def _painted(values: np.ndarray, tiles: Sequence[Tile]) -> np.ndarray:
    """Values of all cells → one map of the page; where tiles overlap the larger one counts."""
    parts = np.split(values, np.cumsum([tile.cells for tile in tiles])[:-1])
    grids = [part.reshape(tile.rows, tile.columns) for part, tile in zip(parts, tiles, strict=True)]
    if len(tiles) == 1:
        return grids[0]
    rows = max(round(tile.rows / (tile.box[3] - tile.box[1])) for tile in tiles)
    columns = max(round(tile.columns / (tile.box[2] - tile.box[0])) for tile in tiles)
    painted = np.full((rows, columns), -np.inf, np.float32)
    for grid, tile in zip(grids, tiles, strict=True):
        left, top, right, bottom = tile.box
        place = painted[
            round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)
        ]
        row = np.arange(place.shape[0]) * tile.rows // max(1, place.shape[0])
        column = np.arange(place.shape[1]) * tile.columns // max(1, place.shape[1])
        np.maximum(place, grid[row][:, column], out=place)
    return painted


def _regions(heat: np.ndarray) -> list[Region]:
    """Neighbouring cells that stand out, as boxes, strongest first."""
    if heat.max() <= 0:
        return []
    labels, _ = ndimage.label(heat >= STANDS_OUT * heat.max(), structure=np.ones((3, 3)))
    regions = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        score = float(heat[rows, columns][labels[rows, columns] == number].max())
        box = (
            columns.start / heat.shape[1],
            rows.start / heat.shape[0],
            columns.stop / heat.shape[1],
            rows.stop / heat.shape[0],
        )
        regions.append(Region(box, score))
    return sorted(regions, key=lambda region: -region.score)[:MAX_REGIONS]


def _is_next(word: PageWord, other: PageWord) -> bool:
    """True where a word stands right behind another one on its line."""
    (left, top, right, bottom), (start, upper, _, lower) = word.box, other.box
    height = bottom - top
    on_line = min(bottom, lower) - max(top, upper) > height / 2
    return on_line and left <= start and start - right < NEAR * height


def _around(words: Sequence[PageWord]) -> Box:
    sides = np.array([word.box for word in words])
    left, top = sides[:, :2].min(axis=0).tolist()
    right, bottom = sides[:, 2:].max(axis=0).tolist()
    return left, top, right, bottom


def _kinds(words: Sequence[PageWord]) -> int:
    return len({word.text.lower() for word in words})


def _cell_box(cell: tuple[np.intp, ...], shape: tuple[int, ...]) -> Box:
    row, column = int(cell[0]), int(cell[1])
    return (
        column / shape[1],
        row / shape[0],
        (column + 1) / shape[1],
        (row + 1) / shape[0],
    )


def _unit(heat: np.ndarray) -> np.ndarray:
    most = float(heat.max())
    if most < ALIKE:
        return np.zeros_like(heat, np.float32)
    return np.asarray(heat / most, np.float32)
