"""Made-up letters, reports and price lists, in English, Japanese or Korean."""

import random

from PIL import Image

from recipes.ocr_quality.sheet import FontShelf, Sheet, bitonal, font_at, scan, wrapped
from recipes.ocr_quality.words import (
    address,
    code,
    company,
    date,
    digits,
    eastern,
    goods,
    money,
    paragraph,
    person,
    phrase,
)

PAGE_INCHES = (8.27, 11.69)


class Letter:
    """A sheet at `dpi`, with one font for all but its headings."""

    def __init__(self, fonts: FontShelf, rng: random.Random, language: str) -> None:
        self.rng, self.language = rng, language
        self.dpi = rng.choice((75, 90, 100, 110, 130, 150, 150, 200))
        width, height = (round(side * self.dpi) for side in PAGE_INCHES)
        look = rng.choice(("serif", "serif", "sans", "sans", "typewriter"))
        file = fonts.pick(look if language == "en" else language, rng)
        self.em = rng.uniform(8.5, 12.5) * self.dpi / 72
        self.font = font_at(file, self.em)
        self.large = font_at(file, self.em * rng.uniform(1.2, 1.8))
        self.left = rng.uniform(0.07, 0.15) * width
        self.width = width - 2 * self.left
        self.y = rng.uniform(0.04, 0.1) * height
        self.bottom = height * rng.uniform(0.55, 0.93)
        ink = rng.choice((rng.randint(0, 50), rng.randint(0, 50), rng.randint(50, 140)))
        self.sheet = Sheet(width, height, ink)

    def line(self, text: str, *, x: float = 0.0, large: bool = False, feed: float = 1.0) -> None:
        font = self.large if large else self.font
        self.sheet.say((self.left + x, self.y), text, font)
        self.sheet.end_line()
        self.y += font.size * 1.32 * feed

    def block(self, text: str, *, x: float = 0.0, share: float = 1.0) -> None:
        for text_line in wrapped(text, self.font, self.width * share):
            if self.y < self.bottom:
                self.line(text_line, x=x)
        self.y += self.em * 0.7

    def words(self) -> str:
        if self.language == "en":
            return paragraph(self.rng)
        return eastern(self.rng, self.language)


def letter(
    fonts: FontShelf, rng: random.Random, language: str = "en"
) -> tuple[Image.Image, str, dict[str, str]]:
    """A scanned page and its transcript."""
    page = Letter(fonts, rng, language)
    rng.choice((_correspondence, _report, _prices))(page)
    image = page.sheet.image
    if page.dpi >= 130 and rng.random() < 0.4:  # below, strokes would not survive
        image = bitonal(image, rng)
    return scan(image, rng, strength=rng.uniform(0.3, 1.2)), page.sheet.truth, {}


def _correspondence(page: Letter) -> None:
    rng = page.rng
    if page.language == "en":
        page.line(company(rng), large=True)
        for text in (*address(rng), "", date(rng), "", person(rng), *address(rng), ""):
            page.line(text) if text else None
            page.y += 0 if text else page.em
        page.block(f"Dear {person(rng)}:")
    while page.y < page.bottom:
        page.block(page.words())
    if page.language == "en":
        page.line("Sincerely,", feed=2.5)
        page.sheet.scribble((page.left, page.y - 2 * page.em, page.left + 9 * page.em, page.y), rng)
        page.line(person(rng))


def _report(page: Letter) -> None:
    """Headings, paragraphs, sometimes a picture, in one column or two read one after the other."""
    rng = page.rng
    if rng.random() < 0.6:
        while page.y < page.bottom:
            if page.language == "en":
                heading = f"{rng.randint(1, 9)}.{rng.randint(1, 9)} {phrase(rng).title()}"
                page.line(heading, large=True, feed=1.2)
            for _ in range(rng.randint(1, 3)):
                page.block(page.words())
            if rng.random() < 0.25 and page.y < page.bottom:
                box = (page.left, page.y, page.left + page.width * 0.6, page.y + 9 * page.em)
                page.sheet.blob(box, rng)
                page.y += 10 * page.em
        return
    top = page.y
    for column in range(2):
        page.y = top
        while page.y < page.bottom:
            page.block(page.words(), x=column * page.width * 0.53, share=0.47)


def _prices(page: Letter) -> None:
    rng = page.rng
    page.line(company(rng) if page.language == "en" else page.words()[:14], large=True)
    edges = [share * page.width for share in (0, 0.16, 0.6, 0.8)]
    while page.y < page.bottom:
        name = goods(rng) if page.language == "en" else page.words()[:12]
        cells = (code(rng), name, digits(rng, rng.randint(1, 3)), money(rng, 9999))
        for x, text in zip(edges, cells, strict=True):
            page.sheet.say((page.left + x, page.y), text, page.font)
        page.sheet.end_line()
        page.y += page.em * rng.choice((1.4, 1.4, 1.9))
