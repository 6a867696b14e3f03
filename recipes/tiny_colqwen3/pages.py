"""Pages to learn reading from: images at about the scale of use, and where their tokens stand."""

import logging
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pymupdf
from PIL import Image
from tokenizers import Tokenizer

from benchmarks import corpus
from recipes.tiny.images import Grey, grid_size, render
from recipes.tiny_colqwen3.architecture import MAX_PIXELS
from recipes.tiny_colqwen3.boxes import TokenBoxes, token_boxes
from recipes.tiny_colqwen3.typeset import font_files, typeset

log = logging.getLogger(__name__)

# Screenshots and unusual paper bring print of other sizes than a page in its budget does.
_SCALES = (0.85, 1.25)
_EASTERN_SHARE = 0.15
_SHUFFLED_SHARE = 0.5
_WORD = re.compile(r"(?<!\S)[A-Za-z]{2,14}[.,;:]?(?!\S)")


@dataclass(frozen=True)
class PrintedPage:
    """A grey page [H, W] and its tokens."""

    image: Grey
    tokens: TokenBoxes


class PrintedPages:
    """Pages in three files: pixels, places of the pages, tokens with their boxes."""

    def __init__(self, folder: Path) -> None:
        self._pixels = np.memmap(folder / "pages.bin", np.uint8, mode="r")
        with np.load(folder / "tokens.npz") as stored:
            self._sizes, self._counts = stored["sizes"], stored["counts"]
            self._tokens, self._boxes = stored["tokens"], stored["boxes"]
        self._starts = np.concatenate([[0], np.cumsum(self._sizes.prod(1))])
        self._firsts = np.concatenate([[0], np.cumsum(self._counts)])

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, index: int) -> PrintedPage:
        height, width = self._sizes[index]
        pixels = self._pixels[self._starts[index] : self._starts[index + 1]]
        part = slice(self._firsts[index], self._firsts[index + 1])
        tokens = TokenBoxes(self._tokens[part], self._boxes[part])
        return PrintedPage(pixels.reshape(height, width), tokens)

    def token_sets(self) -> Iterator[np.ndarray]:
        """The distinct tokens of each page."""
        for index in range(len(self)):
            yield np.unique(self[index].tokens.tokens)


def print_pages(pages: Iterator[PrintedPage], folder: Path) -> PrintedPages:
    """Write pages into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes, tokens = [], []
    with (folder / "pages.bin").open("wb") as sink:
        for page in pages:
            sink.write(page.image.tobytes())
            sizes.append(page.image.shape)
            tokens.append(page.tokens)
            if len(sizes) % 250 == 0:
                log.info("%d pages printed", len(sizes))
    np.savez(
        folder / "tokens.npz",
        sizes=np.array(sizes),
        counts=np.array([len(page.tokens) for page in tokens]),
        tokens=np.concatenate([page.tokens for page in tokens]),
        boxes=np.concatenate([page.boxes for page in tokens]),
    )
    return PrintedPages(folder)


def manual_pages(
    cache: Path, tokenizer: Tokenizer, count: int, seed: int, per_document: int = 6
) -> Iterator[PrintedPage]:
    """Up to `count` pages of the training manuals."""
    rng = random.Random(seed)
    pdfs = corpus.training_pdfs(cache)
    for pdf in rng.sample(pdfs, len(pdfs)):
        try:
            document = pymupdf.open(pdf)
        except (pymupdf.FileDataError, pymupdf.EmptyFileError):
            continue
        with document:
            numbers = range(len(document))
            for number in rng.sample(numbers, min(len(numbers), per_document)):
                page = printed(document[number], tokenizer, rng)
                if page is not None and count > 0:
                    count -= 1
                    yield page
        if count <= 0:
            return


def typeset_pages(
    cache: Path,
    texts: Sequence[corpus.PageText],
    tokenizer: Tokenizer,
    count: int,
    seed: int,
) -> Iterator[PrintedPage]:
    """Pages set from training texts; half of the English ones from shuffled words, rare as often.

    Running text shows the same few hundred words over and over.
    """
    rng = random.Random(seed)
    manuals = [text.text for text in texts if text.path is not None]
    eastern = [text.text for text in texts if text.path is None]
    words = sorted({word for text in manuals for word in _WORD.findall(text)})
    fonts, eastern_fonts = font_files(cache, False), font_files(cache, True)
    while count > 0:
        if rng.random() < _EASTERN_SHARE:
            text, font = rng.choice(eastern) + rng.choice(eastern), rng.choice(eastern_fonts)
        elif rng.random() < _SHUFFLED_SHARE:
            text, font = " ".join(rng.choices(words, k=700)), rng.choice(fonts)
        else:
            text, font = rng.choice(manuals) + rng.choice(manuals), rng.choice(fonts)
        if font in fonts:
            text = text.encode("latin-1", "ignore").decode("latin-1")
        with typeset(text, font, rng) as document:
            page = printed(document[0], tokenizer, rng)
        if page is not None:
            count -= 1
            yield page


def printed(page: pymupdf.Page, tokenizer: Tokenizer, rng: random.Random) -> PrintedPage | None:
    """A page near the scale of use, half of the time by way of 150 dpi; None if odd or bare."""
    height, width = page.rect.height, page.rect.width
    if page.rotation or not (200 <= height <= 1600 and 200 <= width <= 1600):
        return None
    scale = (MAX_PIXELS / (height * width)) ** 0.5
    rows, columns = grid_size(height * scale, width * scale, MAX_PIXELS)
    factor = rng.uniform(*_SCALES)
    rows, columns = round(rows * factor), round(columns * factor)
    tokens = token_boxes(page, tokenizer, rows, columns)
    if len(tokens.tokens) < 20:
        return None
    if rng.random() < 0.5:
        large = render(page, round(height * 150 / 72), round(width * 150 / 72))
        small = Image.fromarray(large).resize((columns, rows), Image.Resampling.BICUBIC)
        return PrintedPage(np.asarray(small), tokens)
    return PrintedPage(render(page, rows, columns), tokens)
