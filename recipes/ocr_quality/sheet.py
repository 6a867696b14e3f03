"""A sheet of paper to print on: text with its truth in reading order, scribbles, and scanning."""

import io
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage


def _names(text: str) -> list[str]:
    return text.split()


# File names in Debian's font packages, by what they look like.
FONTS = {
    "mono": _names(
        """
    DejaVuSansMono LiberationMono-Regular LiberationMono-Bold FreeMono FreeMonoBold Inconsolata
    Hack-Regular 3270-Regular 3270SemiCondensed-Regular JetBrainsMono-Regular FiraCode-Regular
    OCRA OCRB mononoki-Regular VeraMono OxygenMono-Regular NotoSansMono-Regular
    MplusCodeLatin50-Regular NanumGothicCoding DejaVuSansMono-Bold
    """
    ),
    "typewriter": [
        "NimbusMonoPS-Regular",
        "NimbusMonoPS-Bold",
        "FreeMono",
        "FreeMonoBold",
        "LiberationMono-Regular",
        "CourierPrime",
        "CourierPrimeBold",
        "OCRB",
        "VeraMono",
    ],
    "sans": _names(
        """
    LiberationSans-Regular LiberationSans-Bold LiberationSansNarrow-Regular DejaVuSans
    DejaVuSansCondensed Carlito-Regular Lato-Regular Lato-Light OpenSans-Regular OpenSans-Bold
    OpenSans-CondLight Roboto-Regular RobotoCondensed-Regular RobotoCondensed-Light FreeSans
    FreeSansBold Cantarell-Regular Andika-Regular NimbusSans-Regular NimbusSansNarrow-Regular
    Quicksand-Regular Play-Regular Jura-Medium Oxygen-Sans NotoSans-Regular LinBiolinum_R
    """
    ),
    "serif": _names(
        """
    LiberationSerif-Regular LiberationSerif-Bold FreeSerif FreeSerifBold Caladea-Regular
    Gentium-R EBGaramond12-Regular LinLibertine_R C059-Roman P052-Roman NimbusRoman-Regular
    DejaVuSerif DejaVuSerifCondensed Essays1743 GFSArtemisia NotoSerif-Regular C059-Italic
    LiberationSerif-Italic
    """
    ),
    "hand": [
        "Breip",
        "DancingScript-Regular",
        "Kristi",
        "femkeklaver",
        "Ecolier-court",
        "Rufscript010",
        "Humor-Sans",
        "ComicNeue-Regular",
        "ComicNeue-Italic",
        "Z003-MediumItalic",
        "TomsonTalks",
        "Isabella",
    ],
    "ja": [
        "ipag",
        "ipam",
        "ipagp",
        "VL-Gothic-Regular",
        "TakaoGothic",
        "sawarabi-gothic-medium",
        "sawarabi-mincho-medium",
        "MTLc3m",
        "Konatu",
    ],
    "ko": [
        "NanumGothic",
        "NanumMyeongjo",
        "NanumBarunGothic",
        "UnBatang",
        "UnDotum",
        "NanumGothicBold",
        "UnGraphic",
    ],
}


class FontShelf:
    """Fonts below a folder, by family of looks."""

    def __init__(self, folder: Path) -> None:
        found = {file.stem.replace(" ", ""): file for file in sorted(folder.rglob("*.[to]t[fc]"))}
        self._files = {
            look: [found[name] for name in names if name in found] for look, names in FONTS.items()
        }
        missing = [look for look, files in self._files.items() if not files]
        if missing:
            raise SystemExit(f"no font for {', '.join(missing)} below {folder}")

    def pick(self, look: str, rng: random.Random) -> Path:
        return rng.choice(self._files[look])


class Sheet:
    """Grey paper of `width` × `height` px. What `say` prints is the truth, line by line."""

    def __init__(self, width: int, height: int, ink: int) -> None:
        self.image = Image.new("L", (width, height), 255)
        self.draw = ImageDraw.Draw(self.image)
        self.ink = ink
        self.lines: list[list[str]] = [[]]

    def say(
        self, at: tuple[float, float], text: str, font: ImageFont.FreeTypeFont, ink: int = -1
    ) -> float:
        """Print text with its top left corner at (x, y); returns where it ends."""
        x, y = at
        self.draw.text((round(x), round(y)), text, font=font, fill=self.ink if ink < 0 else ink)
        self.lines[-1].append(text)
        return x + font.getlength(text)

    def end_line(self) -> None:
        if self.lines[-1]:
            self.lines.append([])

    def scribble(self, box: tuple[float, float, float, float], rng: random.Random) -> None:
        """A signature or a pen's stroke across something; it has no truth."""
        left, top, right, bottom = box
        turns, phase = rng.uniform(3, 9), rng.uniform(0, 6)
        points = []
        for step in range(80):
            share = step / 79
            swing = math.sin(turns * 6.28 * share + phase) * rng.uniform(0.6, 1)
            points.append(
                (
                    left + (right - left) * share + 4 * math.cos(9 * share + phase),
                    (top + bottom) / 2 + (bottom - top) / 2 * swing * (1 - 0.6 * share),
                )
            )
        self.draw.line(points, fill=rng.randint(0, 90), width=max(1, round((bottom - top) / 16)))

    def blob(self, box: tuple[float, float, float, float], rng: random.Random) -> None:
        """A logo: simple shapes without text."""
        left, top, right, bottom = box
        for _ in range(rng.randint(1, 4)):
            x, y = rng.uniform(left, right), rng.uniform(top, bottom)
            shape = (min(x, left + 3), min(y, top + 3), max(x, left + 9), max(y, top + 9))
            paint = rng.choice((self.draw.ellipse, self.draw.rectangle))
            filled = rng.randint(0, 180) if rng.random() < 0.5 else None
            paint(shape, fill=filled, outline=rng.randint(0, 100), width=2)

    @property
    def truth(self) -> str:
        return "\n".join(" ".join(pieces) for pieces in self.lines if pieces)


def font_at(file: Path, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), max(6, round(size)))


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> Sequence[str]:
    """Break text into lines of at most `width` px; eastern text between any two characters."""
    units = text.split(" ") if " " in text else list(text)
    glue = " " if " " in text else ""
    lines, line = [], ""
    for unit in units:
        longer = f"{line}{glue}{unit}" if line else unit
        if line and font.getlength(longer) > width:
            lines.append(line)
            line = unit
        else:
            line = longer
    return [*lines, line]


def dot_matrix(image: Image.Image, pitch: int) -> Image.Image:
    """Ink in dots, as needle printers and coarse thermal heads leave it."""
    pixels = np.asarray(image, np.float32)
    rows, columns = np.indices(pixels.shape)
    centre = pitch / 2 - 0.5
    away = np.hypot(rows % pitch - centre, columns % pitch - centre)
    ink = np.clip(1.35 - away / (pitch * 0.62), 0, 1)
    return Image.fromarray((255 - (255 - pixels) * ink).astype(np.uint8))


def scan(image: Image.Image, rng: random.Random, *, strength: float = 1.0) -> Image.Image:
    """What any scanner adds: a small turn, softness, paper that is not white, grain, JPEG."""
    noise = np.random.default_rng(rng.getrandbits(32))
    if rng.random() < 0.5:
        angle = rng.gauss(0, 0.7 * strength)
        image = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=255)
    pixels = np.asarray(image, np.float32)
    pixels = ndimage.gaussian_filter(pixels, rng.uniform(0.15, 0.75) * strength)
    paper = rng.uniform(205, 255)
    pixels = pixels * paper / 255
    pixels += noise.standard_normal(pixels.shape) * rng.choice((0.5, 1.5, 4, 8)) * strength
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if rng.random() < 0.6:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=rng.choice((95, 90, 80, 70, 50)))
        image = Image.open(file).convert("L")
    return image


def bitonal(image: Image.Image, rng: random.Random) -> Image.Image:
    """Scanned or faxed to black and white, with specks; strokes break or run together."""
    noise = np.random.default_rng(rng.getrandbits(32))
    pixels = np.asarray(image, np.float32)
    pixels = ndimage.gaussian_filter(pixels, rng.uniform(0.4, 1.5))
    grain = ndimage.gaussian_filter(noise.standard_normal(pixels.shape), rng.uniform(0.4, 1.2))
    pixels = pixels + grain * rng.choice((3, 10, 25, 50))
    out = np.where(pixels < rng.uniform(105, 195), 0, 255)
    specks = noise.random(pixels.shape) < rng.choice((0, 0, 0, 3e-5, 1e-4, 4e-4))
    specks = ndimage.binary_dilation(specks, iterations=rng.randint(1, 2))
    out = np.where(specks, 255 - out if rng.random() < 0.3 else 0, out)
    return Image.fromarray(out.astype(np.uint8))
