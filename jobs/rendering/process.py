"""The rendering process: opens and draws documents for one `jobs.rendering.client.Renderer`.

Started as `python -m jobs.rendering.process LIMITS`. Frames come in on stdin and go out on what
was stdout. It gives up memory, not correctness, to hostile input: the caller kills it and starts
another.
"""

import io
import json
import math
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pymupdf
from PIL import Image

from cluster.errors import InvalidInput, UnreadableDocument
from cluster.pages import words as page_words
from jobs.rendering.client import RenderLimits, RenderTarget
from jobs.rendering.frames import Header, read_frame, write_frame
from jobs.rendering.ocr import MAX_OCR_PIXELS, OCR_DPI, OcrFailed, recognise
from jobs.rendering.readers import DocumentReader, clean_text, open_reader
from models.images import grid_size

JPEG_QUALITY = 87
SCAN_QUALITY = 95  # what is told of a scan's noise should not be told of ours
SAME_SIDE = 0.05  # 10 % of the pixels
MIN_TEXT_CHARS = 5  # with fewer, a page counts as one without text
GRACE_S = 5.0  # between the caller's time limit and our own, for when the caller is gone
OCR_GRACE_S = 1.0  # what remains of a page's time when OCR has to give up
MAX_STDERR_BYTES = 2**20

Reply = tuple[Header, list[bytes | memoryview]]


class OpenDocument:
    """The open document: pages of one file come in a row, so it stays open between them."""

    def __init__(self, limits: RenderLimits) -> None:
        self._limits = limits
        self._reader: DocumentReader | None = None
        self._identity = ("", 0, 0)

    def at(self, path: str) -> DocumentReader:
        """Return the open document at `path`, opened again where the file has changed."""
        identity = _identity(path)
        if self._reader is None or identity != self._identity:
            self.close()
            self._reader, self._identity = open_reader(path, self._limits), identity
        return self._reader

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


@dataclass
class Recognised:
    """What OCR made of a page."""

    text: str = ""
    error: str = ""
    seconds: float = 0.0


def _identity(path: str) -> tuple[str, int, int]:
    with suppress(OSError):  # opening it will say what is wrong
        status = Path(path).stat()
        return path, status.st_mtime_ns, status.st_size
    return path, 0, 0


def main() -> None:
    """Answer requests until the other end closes."""
    limits = RenderLimits(**json.loads(sys.argv[1]))
    replies = _take_stdout()
    _limit_self(limits)
    document = OpenDocument(limits)
    write_frame(replies, {"ready": True})
    while True:
        try:
            request, _ = read_frame(0)
        except EOFError:
            return
        # The kernel ends us, even inside C code, should the caller no longer be there to do it.
        signal.setitimer(signal.ITIMER_REAL, request["timeout_s"] + GRACE_S)
        header, bodies = answer(request, document)
        write_frame(replies, header, *bodies)
        signal.setitimer(signal.ITIMER_REAL, 0)


def answer(request: Header, document: OpenDocument) -> Reply:
    """Answer one request; whatever goes wrong with a document becomes a reply."""
    try:
        deadline = time.monotonic() + request["timeout_s"]
        reader = document.at(request["path"])
        if request["call"] == "check":
            return {"kind": reader.kind, "pages": reader.pages, "title": reader.title}, []
        return _render(reader, request["page"], RenderTarget(**request["target"]), deadline)
    except UnreadableDocument as error:
        return _failure(error.reason, str(error), error.skipped), []
    except InvalidInput as error:
        return _failure("too_narrow", str(error)), []
    except MemoryError:
        return _out_of_memory(), []
    except Exception as error:  # noqa: BLE001 - any document may raise anything in its parsers
        if isinstance(error, OSError) and error.errno:  # of the disk or the network, not of PIL
            reason = f"the file cannot be read ({error.strerror}): check path and permissions"
            return _failure("unreadable", reason), []
        if "alloc" in str(error):  # MuPDF: "malloc (100 bytes) failed"
            return _out_of_memory(), []
        message = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        message = _OUR_NAME.sub("it", message)
        return _failure("corrupt", f"it cannot be read ({message}): export or copy it again"), []


_OUR_NAME = re.compile(r"(file )?'?/dev/fd/\d+'?")  # what an opened document is called here


def _render(reader: DocumentReader, number: int, target: RenderTarget, deadline: float) -> Reply:
    started = time.monotonic()
    page = reader.page(number)
    width, height = page.size_px(target.max_dpi)
    grid = grid_size(width, height, min_pixels=target.min_pixels, max_pixels=target.max_pixels)
    pixels = page.draw(*grid)
    kept_size = fit(width, height, target.keep_pixels)
    kept_pixels = pixels if _serves_as(grid, kept_size) else page.draw(*kept_size)
    jpeg = _jpeg(kept_pixels)
    as_ocr_gets_it = cache(lambda: page.draw(*fit(*page.size_px(OCR_DPI), MAX_OCR_PIXELS)))
    scan = _jpeg(as_ocr_gets_it(), SCAN_QUALITY) if target.scan else b""
    words = page_words.to_bytes(page.words)
    render_s = time.monotonic() - started
    text, recognised = page.text, Recognised()
    if target.ocr and _wants_ocr(text, pixels):
        recognised = _recognise(as_ocr_gets_it, target, deadline)
        text = recognised.text or text
    header: Header = {
        "width": grid[0],
        "height": grid[1],
        "jpeg_width": kept_pixels.shape[1],
        "jpeg_height": kept_pixels.shape[0],
        "text": text,
        "ocr": bool(recognised.text),
        "ocr_error": recognised.error,
        "render_s": render_s,
        "ocr_s": recognised.seconds,
        "jpeg_bytes": len(jpeg),
        "words_bytes": len(words),
    }
    return header, [pixels.tobytes(), jpeg, words, scan]


def fit(width: float, height: float, max_pixels: int) -> tuple[int, int]:
    """Return the size in whole px, same shape, never larger, of at most about `max_pixels`."""
    scale = min(1.0, math.sqrt(max_pixels / (width * height)))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _serves_as(grid: tuple[int, int], kept: tuple[int, int]) -> bool:
    """True where what the model sees can be kept for people: it has as many pixels, or nearly.

    A page is then drawn once, and a reranker finds the picture on its grid. Within 5 % of each side
    nobody sees that the grid has not quite the page's shape.
    """
    if math.prod(grid) >= math.prod(kept):
        return True
    return all(
        abs(side - wanted) <= SAME_SIDE * wanted for side, wanted in zip(grid, kept, strict=True)
    )


def _wants_ocr(text: str, pixels: np.ndarray) -> bool:
    """True for a page with something on it and no text."""
    return len("".join(text.split())) < MIN_TEXT_CHARS and int(pixels.min()) < int(pixels.max())


def _recognise(draw: Callable[[], np.ndarray], target: RenderTarget, deadline: float) -> Recognised:
    started = time.monotonic()
    gray = np.asarray(Image.fromarray(draw()).convert("L"))
    left_s = deadline - time.monotonic() - OCR_GRACE_S
    try:
        text, error = recognise(gray, target.ocr_languages, dpi=OCR_DPI, timeout_s=left_s), ""
    except OcrFailed as failure:
        text, error = "", str(failure)
    return Recognised(clean_text(text), error, time.monotonic() - started)


def _jpeg(pixels: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _failure(reason: str, message: str, skipped: bool = False) -> Header:
    return {"reason": reason, "message": message, "skipped": skipped}


def _out_of_memory() -> Header:
    return _failure("out_of_memory", "it needs too much memory: raise render_memory_bytes")


def _take_stdout() -> BinaryIO:
    """Return the pipe to the caller; what libraries print goes to stderr from here on."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def _limit_self(limits: RenderLimits) -> None:
    """Cap memory, files and manners of this process before it sees a document."""
    pymupdf.TOOLS.mupdf_display_errors(False)
    pymupdf.TOOLS.mupdf_display_warnings(False)
    Image.MAX_IMAGE_PIXELS = None  # ours is checked on the header, and is a setting
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_STDERR_BYTES, MAX_STDERR_BYTES))
    if sys.platform == "linux":  # elsewhere time and pixels are the limits
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        Path("/proc/self/oom_score_adj").write_text("1000")  # rather us than the caller


if __name__ == "__main__":
    main()
