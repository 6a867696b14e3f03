"""Where the letters of a page stand, roughly: supervision of the tower's lower layers.

Words are hard to tell apart before letters are; a head that is thrown away later names the letters
in each patch of 16 × 16 pixels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recipes.tiny_colqwen3.boxes import Floats, TokenBoxes

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PATCH_PX = 16
_NARROW, _WIDE = "fijlrt.,:;'|!()[]1", "mw"
# A letter whose middle is this near to a patch may be seen in it or not.
_DOUBT_PX = np.float32(5)


class Letters:
    """The letters of every token, each with its place in the token, from 0 to 1."""

    def __init__(self, spellings: Sequence[str]) -> None:
        letters: list[int] = []
        places: list[float] = []
        counts: list[int] = []
        for spelling in spellings:
            written = spelling.removeprefix("_")
            widths = np.array([_width(letter) for letter in written] or [1.0])
            middles = (widths.cumsum() - widths / 2) / widths.sum()
            known = [at for at, letter in enumerate(written) if letter in LETTERS]
            letters += [LETTERS.index(written[at]) for at in known]
            places += [float(middles[at]) for at in known]
            counts.append(len(known))
        self._letters = np.array(letters)
        self._places = np.array(places, np.float32)
        self._counts = np.array(counts)
        self._firsts = self._counts.cumsum() - self._counts

    def targets(self, tokens: TokenBoxes, rows: int, columns: int) -> npt.NDArray[np.int8]:
        """(rows · columns, 36) for a window of so many patches, in the order of Qwen3-VL.

        1 where a letter stands, 0 where it does not, -1 where it is hard to say.
        """
        counts = self._counts[tokens.tokens]
        owner = np.repeat(np.arange(len(counts)), counts)
        nth = np.arange(len(owner)) - np.repeat(counts.cumsum() - counts, counts)
        entry = self._firsts[tokens.tokens][owner] + nth
        letters, boxes = self._letters[entry], tokens.boxes[owner]
        across = boxes[:, 0] + self._places[entry] * (boxes[:, 2] - boxes[:, 0])
        down = (boxes[:, 1] + boxes[:, 3]) / np.float32(2)
        out = np.zeros((rows * columns, len(LETTERS)), np.int8)
        for shift in (-_DOUBT_PX, _DOUBT_PX):
            _mark(out, across + shift, down, letters, rows, columns, -1)
            _mark(out, across, down + shift, letters, rows, columns, -1)
        _mark(out, across, down, letters, rows, columns, 1)
        return out


def _mark(
    out: npt.NDArray[np.int8],
    across: Floats,
    down: Floats,
    letters: npt.NDArray[np.int64],
    rows: int,
    columns: int,
    value: int,
) -> None:
    row, column = (np.floor(at / PATCH_PX).astype(np.int64) for at in (down, across))
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    row, column = row[inside], column[inside]
    cell = (row // 2) * (columns // 2) + column // 2
    out[cell * 4 + (row % 2) * 2 + column % 2, letters[inside]] = value


def _width(letter: str) -> float:
    return 0.55 if letter in _NARROW else 1.5 if letter in _WIDE else 1.0
