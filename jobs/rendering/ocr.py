"""Text of a picture, by Tesseract where it is installed.

Tesseract runs as a plain command that reads the picture from a pipe: no file is left behind when
the process that waits for it is killed.
"""

import re
import shutil
import subprocess
from functools import cache

import numpy as np

OCR_DPI = 200  # small print is readable, and it costs half of what 300 dpi costs
MAX_OCR_PIXELS = 16_000_000

# Tesseract puts a space between any two Chinese or Japanese characters, which no reader would type.
CJK = r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]"
SPACE_INSIDE_CJK = re.compile(f"(?<={CJK}) +(?={CJK})")


class OcrFailed(Exception):
    """Tesseract gave no text; the message says why."""


def tesseract_available() -> bool:
    """True where a `tesseract` command is installed. Starts nothing."""
    return shutil.which("tesseract") is not None


@cache
def installed_languages() -> frozenset[str]:
    """Return the languages that Tesseract has data for, e.g. {"eng", "jpn"}. Raises OcrFailed."""
    listing = _run_tesseract(["--list-langs"], b"", timeout_s=10).splitlines()
    return frozenset(line.strip() for line in listing[1:] if line.strip())


@cache
def tesseract_version() -> str:
    """Tesseract's version, e.g. "5.3.0". Raises OcrFailed."""
    return _run_tesseract(["--version"], b"", timeout_s=10).split()[1]


def recognise(gray: np.ndarray, languages: str, *, dpi: int, timeout_s: float) -> str:
    """Return the text in a picture, uint8[height, width] → text.

    `languages` are joined by +; those that are not installed are left out. Raises OcrFailed where
    none is installed, where it takes over `timeout_s`, or where Tesseract fails.
    """
    if timeout_s <= 0:
        raise OcrFailed("no time was left for OCR: raise page_timeout_s")
    usable = [language for language in languages.split("+") if language in installed_languages()]
    if not usable:
        raise OcrFailed(f"Tesseract has no data for {languages}: install its language packages")
    height, width = gray.shape
    pgm = b"P5 %d %d 255\n" % (width, height) + gray.tobytes()
    options = ["stdin", "stdout", "-l", "+".join(usable), "--dpi", str(dpi)]
    return SPACE_INSIDE_CJK.sub("", _run_tesseract(options, pgm, timeout_s=timeout_s))


def _run_tesseract(options: list[str], data: bytes, *, timeout_s: float) -> str:
    command = shutil.which("tesseract")
    if command is None:
        raise OcrFailed("Tesseract is not installed: install tesseract-ocr, or set ocr to off")
    try:
        done = subprocess.run(
            [command, *options], input=data, capture_output=True, timeout=timeout_s, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise OcrFailed(f"OCR took over {timeout_s:.0f} s: raise page_timeout_s") from error
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OcrFailed(f"Tesseract failed: {words[-1] if words else error}") from error
    return done.stdout.decode("utf-8", "replace")
