"""Synthetic pages: training text set in many fonts, so that reading is not tied to one typeface."""

import random
from collections.abc import Sequence
from pathlib import Path

import pymupdf

FONT_PACKAGES = (
    "fonts-crosextra-caladea",
    "fonts-crosextra-carlito",
    "fonts-ebgaramond",
    "fonts-freefont-ttf",
    "fonts-inconsolata",
    "fonts-ipafont-mincho",
    "fonts-lato",
    "fonts-liberation",
    "fonts-nanum",
    "fonts-open-sans",
)
EASTERN_FONTS = ("fonts-ipafont-mincho", "fonts-nanum")
_SIZES = ((595.0, 842.0), (612.0, 792.0))
_UNUSUAL = ("hairline", "thin", "black", "pen", "brush", "symbol")


def font_files(cache: Path, eastern: bool) -> list[Path]:
    """Fonts of the unpacked packages, either those with Japanese and Korean or the others."""
    packages = EASTERN_FONTS if eastern else set(FONT_PACKAGES) - set(EASTERN_FONTS)
    return sorted(
        path
        for package in packages
        for path in (cache / "unpacked" / package).rglob("*")
        if path.suffix in (".ttf", ".otf")
        and not path.is_symlink()
        and not any(word in path.name.lower() for word in _UNUSUAL)
    )


def typeset(text: str, font: Path, rng: random.Random) -> pymupdf.Document:
    """A document of one page: `text` from the top, in one or two columns, while there is room."""
    width, height = rng.choice(_SIZES)
    document = pymupdf.open()
    page = document.new_page(width=width, height=height)
    if rng.random() < 0.25:
        page.draw_rect(page.rect, color=None, fill=[rng.uniform(0.75, 1.0)] * 3)
    columns = rng.choice((1, 1, 2))
    margin = rng.uniform(30, 80)
    face = pymupdf.Font(fontfile=str(font))
    size = rng.choice((8.0, 9.0, 9.5, 10.0, 10.0, 10.5, 11.0, 12.0, 14.0, 18.0))
    leading = size * rng.uniform(1.1, 1.6)
    column = (width - 2 * margin - 20 * (columns - 1)) / columns
    lines = _lines(text, face, size, column)
    colour = [rng.choice((0.0, 0.0, 0.0, 0.2, 0.35))] * 3
    for number in range(columns):
        left, top = margin + number * (column + 20), margin + size
        while top < height - margin and lines:
            _set_line(page, lines.pop(0), font, (left, top), size, colour)
            top += leading * (1 if rng.random() < 0.93 else 2)
    return document


def _set_line(
    page: pymupdf.Page,
    line: str,
    font: Path,
    place: tuple[float, float],
    size: float,
    colour: Sequence[float],
) -> None:
    page.insert_text(place, line, fontname="face", fontfile=str(font), fontsize=size, color=colour)


def _lines(text: str, face: pymupdf.Font, size: float, width: float) -> list[str]:
    """Break at blanks; a run without any is broken wherever the line is full."""
    lines, line, used = [], "", 0.0
    blank = face.text_length(" ", size)
    for word in text.split():
        while (length := face.text_length(word, size)) > width:
            fits = max(1, int(len(word) * width / length))
            lines.append(word[:fits])
            word = word[fits:]
            if not word:
                break
        if line and used + blank + length > width:
            lines.append(line)
            line, used = "", 0.0
        line = f"{line} {word}" if line else word
        used += length + (blank if used else 0.0)
    return [*lines, line] if line else lines
