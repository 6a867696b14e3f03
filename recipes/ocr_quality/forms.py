"""Made-up forms: boxes, lines, fields filled by machine or by hand, scanned at about 100 dpi."""

import itertools
import random

from PIL import Image, ImageFont

from recipes.ocr_quality.sheet import FontShelf, Sheet, bitonal, font_at, scan, wrapped
from recipes.ocr_quality.words import (
    LABELS,
    code,
    company,
    date,
    digits,
    paragraph,
    phone,
    phrase,
    sentence,
    value_for,
)

Fields = dict[str, str]
OVERSAMPLING = 2.2  # drawn so much larger than it is stored, as such scans were made


class Form:
    """A form being printed; all lengths in px of the drawing."""

    def __init__(self, fonts: FontShelf, rng: random.Random) -> None:
        self.rng, self.fonts = rng, fonts
        self.width, self.height = rng.choice(((754, 1000), (770, 1000), (707, 1000), (760, 985)))
        self.width, self.height = (
            round(self.width * OVERSAMPLING),
            round(self.height * OVERSAMPLING),
        )
        self.em = rng.uniform(9.5, 15) * OVERSAMPLING
        look = rng.choice(("typewriter", "typewriter", "sans", "sans", "serif"))
        self.print = font_at(fonts.pick(look, rng), self.em)
        self.fine = font_at(fonts.pick(rng.choice(("sans", "serif")), rng), self.em * 0.72)
        self.by_hand = rng.random() < 0.4
        self.typed = font_at(fonts.pick("typewriter", rng), self.em * rng.uniform(0.9, 1.15))
        self.pen = font_at(fonts.pick("hand", rng), self.em * rng.uniform(1.2, 1.9))
        self.left = rng.uniform(0.05, 0.11) * self.width
        self.right = self.width - rng.uniform(0.05, 0.11) * self.width
        self.y = rng.uniform(0.03, 0.08) * self.height
        self.sheet = Sheet(self.width, self.height, rng.randint(0, 40))
        self.fields: Fields = {}

    @property
    def is_full(self) -> bool:
        return self.y > self.height * 0.9

    def answer(self) -> ImageFont.FreeTypeFont:
        hand = self.by_hand and self.rng.random() < 0.75
        return self.pen if hand else self.typed

    def feed(self, lines: float = 1) -> None:
        self.sheet.end_line()
        self.y += self.em * 1.35 * lines

    def field(self, label: str, left: float, width: float, *, lined: bool) -> None:
        """A label, and behind it what somebody filled in, if anybody did."""
        rng = self.rng
        end = self.sheet.say((left, self.y), label + rng.choice((":", ":", "")), self.print)
        start = end + self.em * 0.5
        if lined:
            base = self.y + self.em * 1.12
            self.sheet.draw.line((start, base, left + width - self.em, base), self.sheet.ink, 2)
        if rng.random() < 0.25:
            return
        font = self.answer()
        value = value_for(label, rng)
        if start + font.getlength(value) > left + width:
            return
        lift = rng.uniform(-0.25, 0.1) * self.em - (font.size - self.em) * 0.6
        self.sheet.say((start, self.y + lift), value, font)
        self.fields[label] = value


def form(fonts: FontShelf, rng: random.Random) -> tuple[Image.Image, str, Fields]:
    """A scanned form, its transcript row by row, and the fields that are filled in."""
    page = Form(fonts, rng)
    _head(page)
    parts = (_labelled, _labelled, _boxed, _table, _choices, _prose, _memo)
    while not page.is_full:
        rng.choice(parts)(page)
        page.feed(rng.uniform(0.3, 1.5))
    _foot(page)
    return _scanned(page.sheet.image, rng), page.sheet.truth, page.fields


def _head(page: Form) -> None:
    rng = page.rng
    if rng.random() < 0.25:  # the line that a fax machine adds
        line = f"{date(rng)} {rng.randint(1, 12)}:{digits(rng, 2)} FROM {company(rng)}"
        page.sheet.say((page.left, page.y), f"{line.upper()} P.{rng.randint(1, 9):02}", page.fine)
        page.feed(1.2)
    if rng.random() < 0.35:
        side = page.em * rng.uniform(2, 4)
        page.sheet.blob((page.left, page.y, page.left + side, page.y + side), rng)
        page.y += rng.choice((0, side))
    title = rng.choice((company(rng), phrase(rng) + " form", phrase(rng) + " " + "report")).upper()
    font = page.print.font_variant(size=round(page.em * rng.uniform(1, 1.7)))
    x = page.left + rng.choice(
        (0.0, max(0.0, (page.right - page.left - font.getlength(title)) / 2))
    )
    page.sheet.say((x, page.y), title, font)
    page.feed(2)


def _labelled(page: Form) -> None:
    """Rows of one to three fields with lines to write on."""
    rng, lined = page.rng, page.rng.random() < 0.6
    for _ in range(rng.randint(2, 7)):
        count = rng.choice((1, 1, 2, 2, 3))
        width = (page.right - page.left) / count
        for column in range(count):
            page.field(rng.choice(LABELS), page.left + column * width, width, lined=lined)
        page.feed(rng.uniform(1, 1.6))
        if page.is_full:
            return


def _boxed(page: Form) -> None:
    """Cells with a small label above the value."""
    rng = page.rng
    for _ in range(rng.randint(1, 4)):
        count = rng.randint(2, 4)
        edges = sorted(rng.uniform(page.left, page.right) for _ in range(count - 1))
        edges = [page.left, *edges, page.right]
        height = page.em * 2.6
        labels = [rng.choice(LABELS) for _ in range(count)]
        cells = [
            (left, label)
            for left, right, label in zip(edges, edges[1:], labels, strict=False)
            if right - left > page.fine.getlength(label) + page.em
        ]
        for left, right in itertools.pairwise(edges):
            box = (left, page.y, right, page.y + height)
            page.sheet.draw.rectangle(box, outline=page.sheet.ink, width=rng.choice((1, 2, 3)))
        for left, label in cells:
            page.sheet.say((left + 6, page.y + 4), label, page.fine)
        page.sheet.end_line()
        for left, label in cells:
            right = min(edge for edge in edges if edge > left)
            font, value = page.answer(), value_for(label, rng)
            if font.getlength(value) < right - left - 12 and rng.random() < 0.8:
                top = page.y + height - font.size * 1.25
                page.sheet.say((left + 10, top), value, font)
                page.fields[label] = value
        page.sheet.end_line()
        page.y += height
        if page.is_full:
            return


def _table(page: Form) -> None:
    """Columns of numbers and short words, ruled or not."""
    rng = page.rng
    count = rng.randint(3, 6)
    width = (page.right - page.left) / count
    heads = [rng.choice(LABELS).split()[0] for _ in range(count)]
    kinds = [rng.choice(("digits", "code", "word", "percent", "date")) for _ in range(count)]
    ruled = rng.random() < 0.5
    top = page.y
    for number in range(rng.randint(3, 9)):
        if ruled:
            page.sheet.draw.line((page.left, page.y, page.right, page.y), page.sheet.ink, 2)
        for column, kind in enumerate(kinds):
            text = heads[column] if number == 0 else _cell(kind, rng)
            if page.typed.getlength(text) < width - 10:
                page.sheet.say((page.left + column * width + 6, page.y + 4), text, page.typed)
        page.feed(rng.choice((1.1, 1.15)))
        if page.is_full:
            break
    if ruled:
        for column in range(count + 1):
            x = page.left + column * width
            page.sheet.draw.line((x, top, x, page.y), page.sheet.ink, 2)


def _cell(kind: str, rng: random.Random) -> str:
    if kind == "word":
        return phrase(rng).split()[-1].title()
    if kind == "percent":
        return f"{rng.uniform(0, 100):.1f}%"
    if kind == "code":
        return code(rng)
    return date(rng) if kind == "date" else digits(rng, rng.randint(1, 6))


def _choices(page: Form) -> None:
    """Boxes to tick."""
    rng = page.rng
    for _ in range(rng.randint(1, 4)):
        x = page.left
        for _ in range(rng.randint(2, 4)):
            text = rng.choice((phrase(rng).title(), "Yes", "No", "Other", "N/A"))
            side = page.em * 0.8
            if x + side + page.print.getlength(text) + page.em > page.right:
                break
            box = (x, page.y + 4, x + side, page.y + 4 + side)
            page.sheet.draw.rectangle(box, outline=page.sheet.ink, width=2)
            if rng.random() < 0.35:
                page.sheet.draw.line((box[0], box[1], box[2], box[3]), page.sheet.ink, 3)
                page.sheet.draw.line((box[0], box[3], box[2], box[1]), page.sheet.ink, 3)
            x = page.sheet.say((x + side * 1.4, page.y), text, page.print) + page.em * 1.5
        page.feed(1.1)


def _prose(page: Form) -> None:
    """Fine print."""
    font = page.rng.choice((page.fine, page.print))
    for line in wrapped(paragraph(page.rng, 1, 3), font, page.right - page.left):
        page.sheet.say((page.left, page.y), line, font)
        page.feed(font.size / page.em)
        if page.is_full:
            return


def _memo(page: Form) -> None:
    """A few lines that somebody wrote in."""
    font = page.answer()
    for line in wrapped(sentence(page.rng), font, (page.right - page.left) * 0.8):
        page.sheet.say((page.left + page.em, page.y), line, font)
        page.feed(font.size / page.em)


def _foot(page: Form) -> None:
    rng = page.rng
    if rng.random() < 0.6:
        page.sheet.scribble(
            (page.left, page.y - page.em, page.left + 14 * page.em, page.y + page.em * 1.5), rng
        )
    if rng.random() < 0.7:  # an archive's number
        page.sheet.end_line()
        at = (rng.uniform(page.left, page.right * 0.7), page.height * 0.955)
        page.sheet.say(at, digits(rng, rng.randint(6, 10)), page.fine)
    if rng.random() < 0.3:  # somebody struck something out, or stamped it
        top = rng.uniform(0.2, 0.7) * page.height
        page.sheet.scribble((page.left, top, page.right, top + 3 * page.em), rng)
    if rng.random() < 0.2:
        page.sheet.end_line()
        page.sheet.say((page.left, page.height * 0.93), f"TEL {phone(rng)}", page.fine)


def _scanned(image: Image.Image, rng: random.Random) -> Image.Image:
    if rng.random() < 0.7:
        image = bitonal(image, rng)
    scale = rng.choice((1, 1, 1, 1.0, 1.25, 1.6, 2.0)) / OVERSAMPLING
    size = (round(image.width * scale), round(image.height * scale))
    method = rng.choice((Image.Resampling.BOX, Image.Resampling.BICUBIC))
    image = image.resize(size, method)
    return scan(image, rng, strength=0.6)
