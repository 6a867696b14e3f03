"""Documents as pages that can be measured and drawn: PDFs by MuPDF, image files by Pillow.

Runs inside the rendering process only (`jobs.rendering.process`): all of this touches hostile
bytes.
"""

import os
import re
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
import pymupdf
from PIL import Image, UnidentifiedImageError

from cluster.errors import UnreadableDocument
from cluster.pages.words import PageWord
from cluster.sources import IMAGE_SUFFIXES
from jobs.rendering.client import RenderLimits
from models.images import IMAGE_FORMATS, upright_on_white

POINTS_PER_INCH = 72
HEAD_BYTES = 1024  # a PDF's header may start anywhere in here
MAX_TEXT_CHARS = 1_000_000  # of one page
MAX_WORDS = 50_000  # of one page, whose places are kept
MAX_TITLE_CHARS = 500

UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

# What files named .pdf or .png turn out to be. MuPDF would open most of it as a document.
FORMATS = {
    "PDF": re.compile(rb".{0,1019}%PDF-", re.DOTALL),
    "PNG": re.compile(rb"\x89PNG"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "TIFF": re.compile(rb"II\*\0|MM\0\*"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8"),
    "SVG": re.compile(rb"(\xef\xbb\xbf)?\s*<.{0,900}<svg\b|\s*<svg\b", re.DOTALL | re.IGNORECASE),
    "HTML or XML": re.compile(rb"(\xef\xbb\xbf)?\s*<"),
    "ZIP or Office": re.compile(rb"PK\x03\x04|\xd0\xcf\x11\xe0"),
    "PostScript": re.compile(rb"%!PS"),
}
TEXT_FLAGS = (
    pymupdf.TEXT_PRESERVE_WHITESPACE
    | pymupdf.TEXT_DEHYPHENATE
    | pymupdf.TEXT_MEDIABOX_CLIP
    | pymupdf.TEXT_PRESERVE_IMAGES  # for their sizes; the text has none of it
)


class PageView(Protocol):
    """One page, opened. `text` is its text layer, `words` where that stands."""

    text: str
    words: list[PageWord]

    def size_px(self, dpi: int) -> tuple[float, float]:
        """Width and height at a resolution; an image file has only its own."""
        ...

    def draw(self, width: int, height: int) -> np.ndarray:
        """Return the page as RGB, exactly so large: uint8[height, width, 3]."""
        ...


class DocumentReader(Protocol):
    """One document, opened."""

    kind: Literal["pdf", "image"]
    pages: int
    title: str

    def page(self, number: int) -> PageView:
        """Return a page, from 1. Raises UnreadableDocument where drawing it would cost too much."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def open_reader(path: str, limits: RenderLimits) -> DocumentReader:
    """Open a document that keeps within the limits. Raises UnreadableDocument."""
    suffix = Path(path).suffix.lower()
    if suffix != ".pdf" and suffix not in IMAGE_SUFFIXES:
        raise UnreadableDocument(
            "unsupported", f"{suffix or 'no suffix'}: convert it to PDF or PNG", skipped=True
        )
    with ExitStack() as opened:
        file = opened.enter_context(_open_file(path))
        _check_file(os.fstat(file.fileno()), limits)
        reader = (PdfReader if suffix == ".pdf" else ImageReader)(path, file, limits)
        if reader.pages > limits.max_pages:
            raise UnreadableDocument(
                "too_many_pages",
                f"it has {reader.pages:,} pages, the limit is {limits.max_pages:,}: split it, or "
                "raise max_document_pages",
                skipped=True,
            )
        opened.pop_all()  # from here on the reader closes the file
        return reader


class PdfReader:
    """A PDF."""

    kind: Literal["pdf", "image"] = "pdf"

    def __init__(self, path: str, file: BinaryIO, limits: RenderLimits) -> None:
        looks_like = format_of(file.read(HEAD_BYTES))
        if looks_like not in ("PDF", ""):
            raise _mislabelled(looks_like, path)
        self._file, self._limits = file, limits
        # By number: any name will do, and it is the file that was checked.
        self._document = pymupdf.open(f"/dev/fd/{file.fileno()}", filetype="pdf")
        if not self._document.is_pdf:
            raise _mislabelled("not a PDF", path)
        if self._document.needs_pass:
            raise UnreadableDocument(
                "encrypted", "it asks for a password: save a copy without one", skipped=True
            )
        self.pages = self._document.page_count
        if self.pages < 1 and self._document.is_repaired:
            raise _corrupt("its structure is broken and no page could be saved")
        if self.pages < 1:
            raise UnreadableDocument(
                "no_pages", "it has no pages: there is nothing to index", skipped=True
            )
        self.title = _title((self._document.metadata or {}).get("title"), path)

    def page(self, number: int) -> "PdfPage":
        if not 1 <= number <= self.pages:
            raise _corrupt(f"it has no page {number}")
        page = PdfPage(self._document[number - 1])
        for width, height in page.image_sizes:  # MuPDF would decode each of them whole
            _check_pixels(width, height, self._limits)
        return page

    def close(self) -> None:
        self._document.close()
        self._file.close()
        pymupdf.TOOLS.store_shrink(100)


class PdfPage:
    """A page of a PDF, interpreted once: drawings and text come from the same display list."""

    def __init__(self, page: pymupdf.Page) -> None:
        self._list = page.get_displaylist(annots=1)
        self._box = self._list.rect  # cropped and rotated as people see it, from (0, 0), points
        content = pymupdf.TextPage(self._list.get_textpage(TEXT_FLAGS))
        self.text = clean_text(content.extractText())[:MAX_TEXT_CHARS]
        self.words = self._words(content.extractWORDS()[:MAX_WORDS])
        self.image_sizes = {(image["width"], image["height"]) for image in content.extractIMGINFO()}

    def _words(self, found: list[tuple[Any, ...]]) -> list[PageWord]:
        """Return the visible part of each word; beyond the page's edge there is none."""
        words, chars = [], 0
        for x0, y0, x1, y1, text, *_ in found:
            left, right = (min(1.0, max(0.0, x / self._box.width)) for x in (x0, x1))
            top, bottom = (min(1.0, max(0.0, y / self._box.height)) for y in (y0, y1))
            chars += len(text)
            if chars > MAX_TEXT_CHARS:
                break
            if left < right and top < bottom:
                words.append(PageWord(clean_text(text), (left, top, right, bottom)))
        return words

    def size_px(self, dpi: int) -> tuple[float, float]:
        scale = dpi / POINTS_PER_INCH
        return self._box.width * scale, self._box.height * scale

    def draw(self, width: int, height: int) -> np.ndarray:
        matrix = pymupdf.Matrix(width / self._box.width, height / self._box.height)
        pixmap = self._list.get_pixmap(matrix, pymupdf.csRGB, alpha=0)
        return np.frombuffer(pixmap.samples, np.uint8).reshape(height, width, 3)


class ImageReader:
    """A PNG, JPEG, TIFF or WebP file. Only TIFFs have several pages; of an animation, the first."""

    kind: Literal["pdf", "image"] = "image"

    def __init__(self, path: str, file: BinaryIO, limits: RenderLimits) -> None:
        looks_like = format_of(file.read(HEAD_BYTES))
        if looks_like and looks_like.upper() not in IMAGE_FORMATS:
            raise _mislabelled(looks_like, path)
        self._file, self._limits = file, limits
        try:
            self._image = Image.open(file, formats=IMAGE_FORMATS)
        except (UnidentifiedImageError, SyntaxError, ValueError) as error:
            raise _corrupt(error) from error
        self.pages = int(getattr(self._image, "n_frames", 1)) if looks_like == "TIFF" else 1
        self.title = _title("", path)

    def page(self, number: int) -> "ImagePage":
        if not 1 <= number <= self.pages:
            raise _corrupt(f"it has no page {number}")
        if self.pages > 1:
            self._image.seek(number - 1)
        _check_pixels(self._image.width, self._image.height, self._limits)
        return ImagePage(self._image)

    def close(self) -> None:
        self._image.close()
        self._file.close()


class ImagePage:
    """A picture, decoded, upright, on white."""

    text = ""

    def __init__(self, image: Image.Image) -> None:
        self.words: list[PageWord] = []
        self._image = upright_on_white(image)

    def size_px(self, dpi: int) -> tuple[float, float]:
        return self._image.size

    def draw(self, width: int, height: int) -> np.ndarray:
        if self._image.size == (width, height):
            return np.asarray(self._image)
        return np.asarray(self._image.resize((width, height), Image.Resampling.BICUBIC))


def format_of(head: bytes) -> str:
    """Tell a file's format by its first bytes: "PDF", "PNG", …, or "" where they say nothing."""
    return next((name for name, magic in FORMATS.items() if magic.match(head)), "")


def clean_text(text: str) -> str:
    """Text that any store takes: no control characters but tab and newline, no half characters."""
    return UNWANTED.sub("", text).strip()


def _open_file(path: str) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # never wait for a FIFO
    except OSError as error:
        raise UnreadableDocument(
            "unreadable", f"the file cannot be read ({error.strerror}): check path and permissions"
        ) from error


def _check_file(found: os.stat_result, limits: RenderLimits) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableDocument("unsupported", "it is not a regular file", skipped=True)
    if found.st_size == 0:
        raise UnreadableDocument("empty", "the file is empty: copy it again", skipped=True)
    if found.st_size > limits.max_document_bytes:
        raise UnreadableDocument(
            "too_large",
            f"it has {found.st_size:,} bytes, the limit is {limits.max_document_bytes:,}: split "
            "it, or raise max_document_bytes",
            skipped=True,
        )


def _check_pixels(width: int, height: int, limits: RenderLimits) -> None:
    if width * height > limits.max_page_pixels:
        raise UnreadableDocument(
            "too_many_pixels",
            f"an image of {width:,}×{height:,} px is over the limit of "
            f"{limits.max_page_pixels:,} px: scale it down, or raise max_image_pixels",
        )


def _title(stored: object, path: str) -> str:
    return clean_text(str(stored or ""))[:MAX_TITLE_CHARS] or clean_text(Path(path).stem)


def _mislabelled(looks_like: str, path: str) -> UnreadableDocument:
    return UnreadableDocument(
        "mislabelled",
        f"its content is {looks_like}: give it the right suffix instead of {Path(path).suffix}",
        skipped=True,
    )


def _corrupt(why: object) -> UnreadableDocument:
    return UnreadableDocument("corrupt", f"it cannot be read ({why}): export or copy it again")
