"""Plain statistics of a page image that predict how hard it is to read; no network.

Lengths are px of the image as given. A page is made even first (its paper's brightness divided
out), then split into ink and paper; letters are the connected pieces of ink of a letter's size.
What only tells kinds of documents apart (the shape of the page, how much is on it) is left out on
purpose: it helps on kinds that were learnt from and misleads on others. About 70 ms for a page of
one megapixel on one core.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from cluster.errors import InvalidInput

FEATURES_VERSION = 1  # of the definitions below; a predictor names the one it learnt from
MAX_PIXELS = 4_500_000  # a larger image is reduced by a whole factor, and lengths multiplied
MIN_SIDE_PX = 16
BLOCK_PX = 32  # of local contrast
PAPER_CELL_PX = 4  # the paper's brightness is found on so many times fewer rows and columns
PAPER_REACH_CELLS = 11
MAX_SKEW = np.arctan(0.14)  # 8 degrees
SKEW_POINTS = 12_000
LETTER_PX = (4, 120)  # least and most height of a letter
TOUCHING = 2.6  # a piece so many times wider than the typical letter is several that touch
MAX_EVEN, LEVELS = 1.2, 127  # brightness against the paper's, and the steps it is split by
DARK_GROUND = 0.4  # of the paper's brightness
EIGHT = np.ones((3, 3), bool)

Values = dict[str, float]


@dataclass(frozen=True)
class Split:
    """A page in ink and paper. All arrays are [height, width]; `even` float32, 0 ink to 1 paper."""

    gray: np.ndarray
    even: np.ndarray
    ink: np.ndarray
    paper_level: np.ndarray  # float32, of each PAPER_CELL_PX square
    counts: np.ndarray  # of each grey value, int[256]
    threshold: int  # the one that splits the whole page best, where `ink` is split locally
    separability: float


def image_statistics(gray: np.ndarray) -> Values:
    """uint8[height, width] → {name: value}, the same names for every image, all finite.

    Raises InvalidInput for anything else, or an image under 16 px.
    """
    if gray.dtype != np.uint8 or gray.ndim != 2 or min(gray.shape) < MIN_SIDE_PX:
        raise InvalidInput(
            f"a page must be uint8[height, width] of {MIN_SIDE_PX} px or more, not "
            f"{gray.dtype}{gray.shape}"
        )
    shrink = 1
    while gray.size > MAX_PIXELS * shrink**2:
        shrink += 1
    small = np.asarray(Image.fromarray(gray).reduce(shrink)) if shrink > 1 else gray
    page = _split(small)
    values = {
        "megapixels": gray.size / 1e6,
        **_tones(page),
        **_evenness(page),
        **_sharpness(page),
        **_strokes(page, shrink),
        **_letters(page, shrink),
        **_lines(page),
    }
    values["letter_sharpness"] = values["edge_slope"] * values["letter_height"]
    values["letter_noise"] = values["noise"] / (1 + 255 * values["contrast"])
    return {name: float(np.nan_to_num(value, posinf=1e6)) for name, value in values.items()}


def _split(gray: np.ndarray) -> Split:
    cells = np.asarray(Image.fromarray(gray).reduce(PAPER_CELL_PX), np.float32)
    level = ndimage.maximum_filter(cells, PAPER_REACH_CELLS)
    level = ndimage.uniform_filter(ndimage.minimum_filter(level, PAPER_REACH_CELLS), 5)
    # What is far darker than the paper lies beside it: the scanner's lid, a table.
    level = np.maximum(level, max(12.0, DARK_GROUND * float(np.quantile(level, 0.95))))
    size = (gray.shape[1], gray.shape[0])
    paper = np.asarray(Image.fromarray(level).resize(size, Image.Resampling.BILINEAR))
    even = np.minimum(gray / paper, MAX_EVEN).astype(np.float32)
    levels = (even * (LEVELS / MAX_EVEN)).astype(np.uint8)
    threshold, _ = otsu(np.bincount(levels.ravel(), minlength=LEVELS + 1))
    counts = np.bincount(gray.ravel(), minlength=256)
    return Split(gray, even, levels <= threshold, level, counts, *otsu(counts))


def otsu(counts: np.ndarray) -> tuple[int, float]:
    """Return the bin that splits a histogram best, and how well: between / total variance, 0 to 1.

    Source: N. Otsu, "A threshold selection method from gray-level histograms", 1979.
    """
    share = counts / max(1, counts.sum())
    levels = np.arange(len(counts))
    below = np.cumsum(share)
    mass = np.cumsum(share * levels)
    mean = mass[-1]
    spread = below * (1 - below)
    between = np.where(spread > 1e-9, (mean * below - mass) ** 2 / np.maximum(spread, 1e-9), 0)
    total = float((share * (levels - mean) ** 2).sum())
    best = int(between.argmax())
    return best, float(between[best] / total) if total > 0 else 0.0


def _tones(page: Split) -> Values:
    """Grey values: what ink and paper look like, and whether they are two things at all."""
    share = page.counts / page.counts.sum()
    cumulated = np.cumsum(share)
    low, middle, high = (float(np.searchsorted(cumulated, at)) for at in (0.02, 0.5, 0.98))
    ink_share = float(page.ink.mean())
    ink = page.gray[page.ink] if ink_share else np.zeros(1, np.uint8)
    seen = share[share > 0]
    return {
        "black": low,
        "gray": middle,
        "white": high,
        "tone_range": high - low,
        "separability": page.separability,
        "otsu_level": float(page.threshold),
        "ink_share": ink_share,
        "ink_tone": float(ink.mean()),
        "ink_spread": float(ink.std()),
        "entropy": float(-(seen * np.log2(seen)).sum()),
        "pure_share": float(share[:3].sum() + share[253:].sum()),
        "middle_share": float(np.mean((page.even > 0.4) & (page.even < 0.8))),
    }


def _evenness(page: Split) -> Values:
    """Paper that is brighter here than there, and ink that is stronger here than there."""
    level = page.paper_level
    rows, columns = (side // BLOCK_PX * BLOCK_PX for side in page.ink.shape)
    if rows and columns:
        blocks = (rows // BLOCK_PX, BLOCK_PX, columns // BLOCK_PX, BLOCK_PX)
        ink = page.ink[:rows, :columns].reshape(blocks)
        tone = np.where(page.ink, 1 - page.even, 0)[:rows, :columns].reshape(blocks)
        count = ink.sum(axis=(1, 3))
        depth = (tone.sum(axis=(1, 3)) / np.maximum(count, 1))[count > BLOCK_PX]
    else:
        depth = np.zeros(0)
    if not depth.size:
        depth = np.zeros(1)
    low, middle, high = (float(np.quantile(depth, at)) for at in (0.1, 0.5, 0.9))
    return {
        "paper_tone": float(np.median(level)),
        "paper_range": float(np.quantile(level, 0.95) - np.quantile(level, 0.05)) / 255,
        "paper_spread": float(level.std()) / (float(level.mean()) + 1),
        "contrast": middle,
        "contrast_low": low,
        "contrast_range": high - low,
        "inked_blocks": depth.size * BLOCK_PX**2 / page.ink.size,
    }


def _sharpness(page: Split) -> Values:
    """Noise, focus and traces of JPEG."""
    even = page.even
    down, across = np.diff(even, axis=0), np.diff(even, axis=1)
    edge = _edges(page.ink)[:-1, :-1]
    rows, columns = np.nonzero(edge)
    at_edges = np.maximum(np.abs(down[rows, columns]), np.abs(across[rows, columns]))
    if not at_edges.size:
        at_edges = np.zeros(1, np.float32)
    depth = float((1 - even[page.ink]).mean()) if page.ink.any() else 0.0
    bend = np.diff(across, axis=1)  # second difference along rows
    # J. Immerkær, "Fast noise variance estimation", 1996: what no smooth surface or edge explains.
    grain = np.abs(np.diff(np.diff(bend, axis=0), axis=0))
    laplace = float((np.diff(down, axis=0)[:, 1:-1] + bend[1:-1]).var())
    paper = even[::2, ::2][~_grown(page.ink)[::2, ::2]]  # every fourth pixel tells as much
    return {
        "noise": float(grain.mean()) * 255 * np.sqrt(np.pi / 2) / 6,
        "grain_median": float(np.median(grain[::4, ::4])) * 255,
        "paper_noise": float(paper.std()) * 255 if paper.size else 0.0,
        "laplacian": laplace,
        "laplacian_by_edges": laplace / (float(edge.mean()) + 1e-3),
        "edge_slope": float(at_edges.mean()) / (depth + 0.02),
        "edge_slope_high": float(np.quantile(at_edges, 0.9)) / (depth + 0.02),
        "blockiness": _blockiness(np.abs(across[::4]), 1) + _blockiness(np.abs(down[:, ::4]), 0),
    }


def _blockiness(steps: np.ndarray, axis: int) -> float:
    """Steps between neighbours at every eighth place, against those in between; 0 without JPEG."""
    mean = steps.mean(axis=1 - axis)
    usable = mean[: len(mean) // 8 * 8]
    if not usable.size:
        return 0.0
    places = usable.reshape(-1, 8).mean(axis=0)
    return float(places[7] / (np.delete(places, 7).mean() + 1e-4) - 1)


def _edges(ink: np.ndarray) -> np.ndarray:
    """Ink with paper above, below, left or right of it."""
    inside = ink.copy()
    inside[1:] &= ink[:-1]
    inside[:-1] &= ink[1:]
    inside[:, 1:] &= ink[:, :-1]
    inside[:, :-1] &= ink[:, 1:]
    return np.asarray(ink & ~inside)


def _grown(ink: np.ndarray) -> np.ndarray:
    """Ink, and what lies within two pixels above, below, left or right of it."""
    grown = ink.copy()
    for shift in (1, 2):
        grown[shift:] |= ink[:-shift]
        grown[:-shift] |= ink[shift:]
        grown[:, shift:] |= ink[:, :-shift]
        grown[:, :-shift] |= ink[:, shift:]
    return grown


def _strokes(page: Split, shrink: int) -> Values:
    """Lengths of runs of ink along rows and columns: stroke width, and rules and frames."""
    across, down = _runs(page.ink), _runs(page.ink.T)
    values: Values = {}
    for name, runs in (("across", across), ("down", down)):
        usual = runs[runs <= LETTER_PX[1]] if runs.size else runs
        if not usual.size:
            usual = np.zeros(1)
        values[f"stroke_{name}"] = float(np.median(usual)) * shrink
        values[f"stroke_{name}_mean"] = float(usual.mean()) * shrink
        values[f"single_{name}"] = float((usual == 1).mean())
        long = runs[runs > LETTER_PX[1]].sum()
        values[f"rules_{name}"] = float(long / max(1, runs.sum()))
    edge = float(_edges(page.ink).sum())
    values["stroke"] = 2 * shrink * float(page.ink.sum()) / (edge + 1)
    return values


def _runs(ink: np.ndarray) -> np.ndarray:
    """Lengths of all runs of true along the rows, int[runs]."""
    framed = np.zeros((ink.shape[0], ink.shape[1] + 2), np.int8)
    framed[:, 1:-1] = ink
    change = np.flatnonzero(np.diff(framed.ravel()))
    return np.asarray(change[1::2] - change[::2])


def _letters(page: Split, shrink: int) -> Values:
    """Pieces of ink: how many have a letter's size, how large, whole, broken or touching."""
    labels, count = ndimage.label(page.ink, EIGHT)
    boxes = ndimage.find_objects(labels)
    shape = np.array([(r.stop - r.start, c.stop - c.start) for r, c in boxes], float)
    shape = shape.reshape(-1, 2)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:].astype(float)
    height, width = shape[:, 0], shape[:, 1]
    sized = (height >= LETTER_PX[0]) & (height <= LETTER_PX[1]) & (area >= 6)
    sized &= width <= 12 * height
    typical = _typical_height(height[sized], width[sized])
    letter = sized & (height > 0.55 * typical) & (height < 2.6 * typical)
    letters = max(1, int(letter.sum()))
    tall, broad, filled = height[letter], width[letter], area[letter]
    if not tall.size:
        tall = broad = filled = np.zeros(1)
    crumbs = (height < 0.45 * typical) & (width < 0.6 * typical)
    box = np.maximum(tall * broad, 1)
    total = max(1.0, float(area.sum()))
    holes = _holes(page.ink, count)
    of_letters = np.zeros(count + 1, bool)
    of_letters[1:] = letter
    at_letters = of_letters[labels]
    tones = page.gray[at_letters] if letter.any() else np.zeros(1, np.uint8)
    return {
        **_global_split(page, at_letters, tones),
        "letter_height": typical * shrink,
        "letter_height_median": float(np.median(tall)) * shrink,
        "letter_height_low": float(np.quantile(tall, 0.1)) * shrink,
        "letter_height_high": float(np.quantile(tall, 0.9)) * shrink,
        "letter_spread": float(np.quantile(tall, 0.75) - np.quantile(tall, 0.25)) / (typical + 1),
        "letter_width": float(np.median(broad)) * shrink,
        "letter_shape": float(np.median(broad / np.maximum(tall, 1))),
        "letter_fill": float(np.median(filled / box)),
        "letter_stroke": float(np.median(filled / np.maximum(np.maximum(tall, broad), 1))) * shrink,
        "letters_by_area": letters * typical**2 / page.ink.size,
        "letter_ink": float(area[letter].sum()) / total,
        "touching": float((broad > TOUCHING * typical).sum()) / letters,
        "touching_ink": float(filled[broad > TOUCHING * typical].sum()) / total,
        "crumbs": float(np.log1p(float(crumbs.sum()) / letters)),
        "crumb_ink": float(area[crumbs].sum()) / total,
        "dots": float(np.log1p(float((area <= 2).sum()) / letters)),
        "large_ink": float(area[height > 2.6 * typical].sum()) / total,
        "holes": holes / letters,
    }


def _global_split(page: Split, at_letters: np.ndarray, tones: np.ndarray) -> Values:
    """Letters that one threshold for the whole page loses, and paper that it blackens.

    Tesseract splits in this way, so it cannot read them.
    """
    black = int(page.counts[: page.threshold + 1].sum())
    ink_tones = int((tones <= page.threshold).sum())
    ink_below = int((page.gray[page.ink] <= page.threshold).sum())
    return {
        "letter_tone": float(tones.mean()),
        "letter_tone_spread": float(tones.std()),
        "lost_letters": 1 - ink_tones / tones.size,
        "blackened": (black - ink_below) / (tones.size + 1),
        "letter_contrast": float((1 - page.even[at_letters]).mean()) if tones.size > 1 else 0.0,
    }


def _typical_height(height: np.ndarray, width: np.ndarray) -> float:
    """Return the height that most letters share (x-height or capitals), px; 0 without letters."""
    upright = height[(width < 2 * height) & (width > 0.15 * height)]
    if upright.size < 5:
        return float(np.median(height)) if height.size else 0.0
    counts = np.bincount(upright.astype(int), minlength=LETTER_PX[1] + 2).astype(float)
    counts *= np.sqrt(np.arange(len(counts)))  # crumbs are many, letters are large
    smooth = np.convolve(counts, (0.5, 1, 0.5), "same")
    peak = int(smooth.argmax())
    near = np.arange(max(0, peak - 2), min(len(counts), peak + 3))
    return float((near * counts[near]).sum() / max(counts[near].sum(), 1e-9))


def _holes(ink: np.ndarray, pieces: int) -> float:
    """Enclosed paper: pieces less Euler's number, from counts of 2×2 squares (8-connected ink).

    Source: S. B. Gray, "Local properties of binary images in two dimensions", 1971.
    """
    framed = np.zeros((ink.shape[0] + 2, ink.shape[1] + 2), np.uint8)
    framed[1:-1, 1:-1] = ink
    a, b, c, d = framed[:-1, :-1], framed[:-1, 1:], framed[1:, :-1], framed[1:, 1:]
    kinds = np.bincount((a + 2 * b + 4 * c + 8 * d).ravel(), minlength=16)
    one, three = kinds[[1, 2, 4, 8]].sum(), kinds[[7, 11, 13, 14]].sum()
    diagonal = kinds[[6, 9]].sum()
    return float(pieces - (int(one) - int(three) - 2 * int(diagonal)) / 4)


def _lines(page: Split) -> Values:
    """Skew, and how clearly rows of ink and rows of paper alternate once it is undone."""
    rows, columns = np.nonzero(page.ink)
    if rows.size < 50:
        return {"skew": 0.0, "profile": 0.0, "profile_level": 0.0}
    if rows.size > SKEW_POINTS:
        step = rows.size / SKEW_POINTS
        taken = (np.arange(SKEW_POINTS) * step).astype(int)
        rows, columns = rows[taken], columns[taken]
    slopes = np.linspace(-np.tan(MAX_SKEW), np.tan(MAX_SKEW), 29)
    coarse = [_profile(rows, columns, slope) for slope in slopes]
    best = slopes[int(np.argmax(coarse))]
    fine = np.linspace(best - 0.01, best + 0.01, 9)
    strengths = [_profile(rows, columns, slope) for slope in fine]
    slope = float(fine[int(np.argmax(strengths))])
    return {
        "skew": abs(float(np.degrees(np.arctan(slope)))),
        "profile": max(strengths) / (float(np.mean(coarse)) + 1e-9),
        "profile_level": max(strengths),
    }


def _profile(rows: np.ndarray, columns: np.ndarray, slope: float) -> float:
    """Unevenness of the ink's sums along lines of a slope (rows a column); 1 is no structure."""
    sheared = (rows - slope * columns).astype(int)
    sums = np.bincount(sheared - sheared.min()).astype(float)
    mean = sums.mean()
    return float((sums**2).mean() / (mean**2 + 1e-9))
