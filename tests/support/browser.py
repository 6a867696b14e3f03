"""Visits of the web page in a real browser, and documents for them."""

import base64
import io
import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from PIL import Image
from playwright.sync_api import Page, Request, expect

from tests.support.paths import ROOT

UI = ROOT / "serve" / "ui"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
JOB_MS = 90_000
WAKE_MS = 90_000  # of a model that starts with its first request
expect.set_options(timeout=60_000)  # the first search of a fresh server warms its models
EVIL = "<img src=x onerror=document.title='owned'>"
TAG = "page-test"
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@dataclass
class Tab:
    """A page of the browser and what went on in it."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def search(self, text: str) -> None:
        self.page.locator("#text").fill(text)
        self.page.keyboard.press("Enter")

    def sent(self) -> list[dict[str, Any]]:
        """The searches so far that were sent as JSON."""
        bodies = [one.post_data for one in self.requests if one.url.endswith("/v1/search")]
        return [json.loads(body) for body in bodies if body and body.startswith("{")]

    def forgive(self, *words: str) -> None:
        """Take back the browser's complaints about failures that the test made itself."""
        self.errors = [error for error in self.errors if not any(word in error for word in words)]


@dataclass(frozen=True)
class Known:
    """A page of the library and two words found on it alone."""

    source: str
    page: int
    pages: int
    words: tuple[str, str]


def known_in(library: Path) -> Known:
    """A middle page of the longest document."""
    texts: dict[str, list[str]] = {}
    for path in sorted(library.glob("*.pdf")):
        with pymupdf.open(path) as document:
            texts[path.name] = [str(page.get_text()) for page in document]
    source = max(texts, key=lambda name: len(texts[name]) * bool("".join(texts[name]).strip()))
    page = len(texts[source]) // 2
    here = set(re.findall(r"(?<![A-Za-z])[a-z]{6,}(?![A-Za-z])", texts[source][page - 1]))
    rest = " ".join(
        text.lower()
        for name, pages in texts.items()
        for number, text in enumerate(pages, 1)
        if (name, number) != (source, page)
    )
    alone = sorted((word for word in here if word not in rest), key=lambda word: (-len(word), word))
    return Known(source, page, len(texts[source]), (alone[0], alone[1]))


def a_pdf(*pages: str, title: str = "") -> bytes:
    document = pymupdf.open()
    for text in pages:
        document.new_page().insert_text((36, 72), text, fontname="japan")
    document.set_metadata({"title": title})
    return bytes(document.tobytes())


def a_file(name: str, content: bytes, kind: str = "application/pdf") -> Any:
    return {"name": name, "mimeType": kind, "buffer": content}


def a_screenshot(library: Path, known: Known) -> bytes:
    with pymupdf.open(library / known.source) as document:
        pixels = document[known.page - 1].get_pixmap(dpi=60)
        image = Image.frombytes("RGB", (pixels.width, pixels.height), pixels.samples)
    file = io.BytesIO()
    image.crop((0, 0, image.width, image.height // 2)).save(file, "PNG")
    return file.getvalue()


GIVE_FILES = """
([type, files]) => {
  const transfer = new DataTransfer();
  for (const { name, mime, content } of files) {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: mime }));
  }
  const options = { bubbles: true, cancelable: true };
  const event = type === "paste"
    ? new ClipboardEvent(type, { ...options, clipboardData: transfer })
    : new DragEvent(type, { ...options, dataTransfer: transfer });
  document.body.dispatchEvent(event);
}
"""


def give(page: Page, event: str, *files: Any) -> None:
    """Paste or drop files anywhere on the page."""
    packed = [
        {
            "name": one["name"],
            "mime": one["mimeType"],
            "content": base64.b64encode(one["buffer"]).decode(),
        }
        for one in files
    ]
    page.evaluate(GIVE_FILES, [event, packed])
