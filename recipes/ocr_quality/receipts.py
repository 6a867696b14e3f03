"""Made-up receipts: narrow and tall, thermal or needle print, on a scanner's glass."""

import random

from PIL import Image, ImageFont

from recipes.ocr_quality.sheet import FontShelf, Sheet, dot_matrix, font_at, scan
from recipes.ocr_quality.words import address, code, company, date, digits, goods, money, phone

Fields = dict[str, str]
MAX_HEIGHT_PX = 6000


class Receipt:
    """A receipt being printed, `columns` characters wide."""

    def __init__(self, fonts: FontShelf, rng: random.Random) -> None:
        self.rng = rng
        self.size = rng.lognormvariate(3.05, 0.32)  # of the type, px: about 11 to 40
        look = "mono" if rng.random() < 0.72 else rng.choice(("sans", "serif"))
        file = fonts.pick(look, rng)
        self.font = font_at(file, self.size)
        self.large = font_at(file, self.size * rng.choice((1, 1.3, 1.6, 2)))
        self.columns = rng.randint(26, 46)
        self.width = self.columns * self.font.getlength("0")
        self.margin = rng.uniform(0.3, 3) * self.size
        self.pitch = self.size * rng.uniform(1.02, 1.6)
        self.upper = rng.random() < 0.65
        self.y = self.margin
        ink = rng.choice((rng.randint(0, 60), rng.randint(0, 60), rng.randint(60, 165)))
        self.sheet = Sheet(round(self.width + 2 * self.margin), MAX_HEIGHT_PX, ink)

    def case(self, text: str) -> str:
        return text.upper() if self.upper else text

    def centre(self, text: str, font: ImageFont.FreeTypeFont | None = None) -> None:
        font = font or self.font
        text = self.case(text)
        while font.getlength(text) > self.width and " " in text:
            text = text.rsplit(" ", 1)[0]
        x = self.margin + max(0, (self.width - font.getlength(text)) / 2)
        self.sheet.say((x, self.y), text, font)
        self.feed(font.size / self.font.size)

    def row(self, *cells: tuple[float, str], right: str = "") -> None:
        """Cells at shares of the width, and one set against the right edge."""
        for at, text in cells:
            self.sheet.say((self.margin + at * self.width, self.y), self.case(text), self.font)
        if right:
            x = self.margin + self.width - self.font.getlength(right)
            self.sheet.say((x, self.y), right, self.font)
        self.feed()

    def feed(self, lines: float = 1) -> None:
        self.sheet.end_line()
        self.y += self.pitch * lines

    def rule(self) -> None:
        kind = self.rng.random()
        middle = self.y + self.pitch / 2
        if kind < 0.5:  # dashes are drawn, and no part of the truth
            for left in range(round(self.margin), round(self.margin + self.width), 9):
                self.sheet.draw.line((left, middle, left + 5, middle), self.sheet.ink)
        elif kind < 0.85:
            end = self.margin + self.width
            self.sheet.draw.line((self.margin, middle, end, middle), self.sheet.ink, 2)
        self.y += self.pitch


def receipt(fonts: FontShelf, rng: random.Random) -> tuple[Image.Image, str, Fields]:
    """A scanned receipt, its transcript, and its fields."""
    page = Receipt(fonts, rng)
    fields = _head(page)
    total = _items(page)
    fields["total"] = total
    _foot(page)
    height = round(page.y + page.margin + page.size)
    image = page.sheet.image.crop((0, 0, page.sheet.image.width, min(height, MAX_HEIGHT_PX)))
    if rng.random() < 0.3:
        image = dot_matrix(image, rng.choice((2, 3)) if page.size < 26 else rng.choice((3, 4)))
    image = _on_glass(image, rng)
    return scan(image, rng), page.sheet.truth, fields


def _head(page: Receipt) -> Fields:
    rng = page.rng
    if rng.random() < 0.3:
        side = page.size * rng.uniform(2, 6)
        left = page.margin + (page.width - side) / 2
        page.sheet.blob((left, page.y, left + side, page.y + side), rng)
        page.y += side + page.pitch
    name, (street, town), when = company(rng), address(rng), date(rng)
    page.centre(name, page.large)
    first_line = page.sheet.truth.splitlines()[0]
    if rng.random() < 0.6:
        page.centre(f"({digits(rng, 6)}-{rng.choice('ABDHKMTUVWX')})")
    page.centre(street)
    page.centre(town)
    if rng.random() < 0.7:
        page.centre(f"TEL: {phone(rng)}")
    if rng.random() < 0.5:
        page.centre(f"GST ID: {digits(rng, 12)}")
    page.rule()
    page.centre(rng.choice(("Tax Invoice", "Receipt", "Cash Bill", "Simplified Tax Invoice")))
    for label, value in (("Invoice No", code(rng)), ("Date", when), ("Cashier", code(rng))):
        if label == "Date" or rng.random() < 0.7:
            page.row((0, f"{label}{rng.choice((':', ' :', '  :'))} {value}"))
    page.rule()
    return {"company": first_line, "address": page.case(f"{street} {town}"), "date": when}


def _items(page: Receipt) -> str:
    rng = page.rng
    two_lines = rng.random() < 0.45
    if rng.random() < 0.6:
        page.row((0, "Item"), (0.5, "Qty"), right=page.case("Amount"))
    amounts = []
    for _ in range(max(1, round(rng.lognormvariate(1.4, 0.7)))):
        each, count = float(money(rng).strip("$").replace(",", "")), rng.choice((1, 1, 1, 2, 3, 12))
        amounts.append(each * count)
        name = goods(rng)[: page.columns // 2 - (0 if two_lines else 3)].strip()
        if two_lines:
            page.row((0, f"{digits(rng, rng.choice((4, 8, 13)))} {name}"[: page.columns]))
            page.row((0.08, f"{count} x {each:.2f}"), right=f"{amounts[-1]:.2f}")
        else:
            page.row((0, name), (0.56, str(count)), right=f"{amounts[-1]:.2f}")
    page.rule()
    total = f"{sum(amounts):.2f}"
    tax = f"{sum(amounts) * 0.06:.2f}"
    for label, value in (("Sub Total", total), ("GST 6%", tax), ("Rounding", "0.00")):
        if rng.random() < 0.5:
            page.row((0.1, label), right=value)
    page.row((0.1, rng.choice(("Total", "Total Amount", "Grand Total", "Total (RM)"))), right=total)
    page.row((0.1, rng.choice(("Cash", "Visa", "Tendered"))), right=f"{sum(amounts) + 5:.2f}")
    page.row((0.1, "Change"), right="5.00")
    return total


def _foot(page: Receipt) -> None:
    rng = page.rng
    page.rule()
    closing = (
        "Thank you, please come again",
        "Goods sold are not returnable",
        "Goods sold are not refundable",
        "Thank you for shopping with us",
        "Please keep this receipt for exchange",
        f"www.{rng.choice(NAMES_OF_SITES)}.com",
        f"Served by {code(rng)}",
    )
    for text in rng.sample(closing, rng.randint(1, 4)):
        page.centre(text)
    if rng.random() < 0.25:  # a bar code
        x = page.margin
        while x < page.margin + page.width * 0.8:
            thick = rng.randint(1, 5)
            page.sheet.draw.rectangle(
                (x, page.y, x + thick, page.y + 3 * page.size), page.sheet.ink
            )
            x += thick + rng.randint(2, 5)
        page.y += 4 * page.size
    if rng.random() < 0.25:
        top = rng.uniform(0.2, 0.8) * page.y
        left = page.margin + rng.uniform(0, 0.5) * page.width
        page.sheet.scribble((left, top, left + 0.4 * page.width, top + 4 * page.size), rng)


NAMES_OF_SITES = ("lotus-shop", "fairmart", "harbourfoods", "oakandson", "greenlane")


def _on_glass(image: Image.Image, rng: random.Random) -> Image.Image:
    """Many scans show more than the paper: white or dark surroundings, the paper somewhere."""
    if rng.random() < 0.55:
        return image
    width = round(image.width * rng.uniform(1.05, 1.9))
    height = round(image.height * rng.uniform(1.02, 1.35))
    ground = rng.choice((255, 255, 250, 235, 40))
    glass = Image.new("L", (width, height), ground)
    at = (rng.randint(0, width - image.width), rng.randint(0, height - image.height))
    glass.paste(image, at)
    return glass
