"""Training material: Debian documentation packages → pages of text, split by document.

Manuals are PDFs of TeX Live (mostly English); Japanese and Korean texts are HTML, plain text and
manual pages of Debian, GIMP and LibreOffice. Nothing here renders a page: see `images.py`.
"""

import gzip
import hashlib
import html
import logging
import random
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pymupdf

log = logging.getLogger(__name__)

BENCHMARK_PACKAGES = ("texlive-humanities-doc", "texlive-latex-recommended-doc")
MANUAL_PACKAGES = (*BENCHMARK_PACKAGES, "texlive-latex-extra-doc", "texlive-lang-korean")
EASTERN_PACKAGES = (
    "aptitude-doc-ja",
    "debian-faq-ja",
    "debian-faq-ko",
    "debian-handbook",
    "debian-policy-ja",
    "debian-reference-ja",
    "developers-reference-ja",
    "gimp-help-ja",
    "gimp-help-ko",
    "libreoffice-help-ja",
    "libreoffice-help-ko",
    "maint-guide-ja",
    "manpages-ja",
    "manpages-ja-dev",
)
HELD_OUT_SHARE = 56 / 256
PAGES_PER_DOCUMENT = 80
SECTION_CHARS = 1800

Split = Literal["train", "held-out"]


@dataclass(frozen=True)
class PageText:
    """Text of one page; `page` counts from 0; `path` is the PDF, or None for text without pages."""

    doc: str
    page: int
    text: str
    path: Path | None


def fetch(cache: Path, packages: tuple[str, ...]) -> None:
    """Download packages and unpack each into `cache/unpacked/<package>`; what is there is kept."""
    debs = cache / "deb"
    debs.mkdir(parents=True, exist_ok=True)
    for package in packages:
        target = cache / "unpacked" / package
        if target.exists():
            continue
        if not any(debs.glob(f"{package}_*.deb")):
            log.info("downloading %s", package)
            subprocess.run(["apt-get", "download", package], cwd=debs, check=True)  # noqa: S607
        partial = target.with_suffix(".partial")
        partial.mkdir(parents=True, exist_ok=True)
        deb = next(debs.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg", "-x", str(deb), str(partial)], check=True)  # noqa: S607
        partial.rename(target)


def split(doc: str) -> Split:
    """The split of a document by the hash of its name, so that it never changes."""
    share = hashlib.sha256(doc.encode()).digest()[0] / 256
    return "held-out" if share < HELD_OUT_SHARE else "train"


def manual_pdfs(cache: Path, packages: tuple[str, ...] = MANUAL_PACKAGES) -> list[Path]:
    """PDFs of the unpacked manual packages, sorted by path."""
    roots = [cache / "unpacked" / package for package in packages]
    return sorted(
        path
        for root in roots
        for path in root.rglob("*.pdf")
        if path.is_file() and not path.is_symlink()
    )


def training_pdfs(cache: Path) -> list[Path]:
    """PDFs of all packages that are in the training split."""
    pdfs = manual_pdfs(cache, MANUAL_PACKAGES + EASTERN_PACKAGES)
    return [pdf for pdf in pdfs if split(manual_name(pdf)) == "train"]


def manual_name(pdf: Path) -> str:
    """The name a manual is split by: its folder, so that translations and parts stay together."""
    return pdf.parent.name


def held_out_pdfs(cache: Path, max_pages: int = 500) -> list[Path]:
    """English manuals that no part of the checkpoint was trained on, about `max_pages` pages.

    Fetches the two smaller packages into `cache` when they are not there.
    """
    fetch(cache, BENCHMARK_PACKAGES)
    chosen: list[Path] = []
    pages = 0
    for pdf in manual_pdfs(cache, BENCHMARK_PACKAGES):
        if split(manual_name(pdf)) == "train":
            continue
        texts = list(pdf_texts(pdf))
        if not 2 <= len(texts) <= PAGES_PER_DOCUMENT or not is_english(" ".join(texts)):
            continue
        if pages + len(texts) > max_pages:
            continue
        chosen.append(pdf)
        pages += len(texts)
    return chosen


def is_english(text: str) -> bool:
    """Whether at least one word in twelve is a frequent English one."""
    words = re.findall(r"[a-z]+", text.lower())
    frequent = sum(word in {"the", "of", "and", "to", "is", "in", "that", "for"} for word in words)
    return len(words) >= 50 and frequent * 12 >= len(words)


def pdf_texts(pdf: Path) -> Iterator[str]:
    """Text layer of each page, in reading order; nothing for a file that cannot be opened."""
    try:
        document = pymupdf.open(pdf)
    except (pymupdf.FileDataError, pymupdf.EmptyFileError):
        return
    with document:
        if not document.needs_pass:
            yield from (tidy(page.get_text()) for page in document.pages())


def tidy(text: str) -> str:
    """Undo line-end hyphens, drop control characters, collapse blank space within lines."""
    text = re.sub(r"(?<=[a-z])-\n(?=[a-z])", "", text)
    text = "".join(
        c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Co", "Cs")
    )
    return re.sub(r"[ \t]+", " ", text).strip()


def manual_texts(cache: Path) -> Iterator[PageText]:
    """Pages of all training manuals, at most `PAGES_PER_DOCUMENT` of each, spread evenly."""
    for pdf in manual_pdfs(cache):
        if split(manual_name(pdf)) != "train":
            continue
        texts = list(pdf_texts(pdf))
        step = max(1, -(-len(texts) // PAGES_PER_DOCUMENT))
        for number in range(0, len(texts), step):
            if len(texts[number]) >= 40:
                yield PageText(str(pdf.relative_to(cache)), number, texts[number], pdf)


def eastern_texts(cache: Path) -> Iterator[PageText]:
    """Japanese and Korean training texts, cut into page-sized sections."""
    for package in EASTERN_PACKAGES:
        root = cache / "unpacked" / package
        for path in sorted(root.rglob("*")):
            if (
                not path.is_file()
                or path.is_symlink()
                or split(str(path.relative_to(cache))) != "train"
            ):
                continue
            text = _eastern_text(path)
            for number, start in enumerate(range(0, len(text), SECTION_CHARS)):
                section = text[start : start + SECTION_CHARS]
                if len(section) >= 40:
                    yield PageText(str(path.relative_to(cache)), number, section, None)


def _eastern_text(path: Path) -> str:
    name = str(path)
    if name.endswith(".html") and not re.search(r"/html/(?!ja-JP|ko-KR)[a-z]{2}-[A-Z]{2}/", name):
        text = html_text(path.read_text(errors="ignore"))
    elif name.endswith(".txt.gz"):
        text = gzip.decompress(path.read_bytes()).decode("utf-8", errors="ignore")
    elif re.search(r"/man/ja/.*\.gz$", name):
        text = roff_text(gzip.decompress(path.read_bytes()).decode("utf-8", errors="ignore"))
    else:
        return ""
    eastern = len(re.findall(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]", text))
    return tidy(text) if eastern * 10 >= len(text) else ""


def html_text(source: str) -> str:
    """Visible text of an HTML page; block elements end a line."""
    source = re.sub(r"(?is)<(script|style|head|header|nav|aside)\b.*?</\1>", " ", source)
    source = re.sub(r"(?i)<(br|/p|/div|/li|/h\d|/tr|/dt|/dd|/pre)\b[^>]*>", "\n", source)
    text = html.unescape(re.sub(r"<[^>]+>", "", source))
    return re.sub(r"\s*\n\s*", "\n", text)


def roff_text(source: str) -> str:
    """Text of a manual page without its macros."""
    source = re.sub(r"(?m)^[.'](\\\"|TH|so|ds|de|if|ie|el|nr).*$", "", source)
    source = re.sub(r"(?m)^[.'][A-Za-z]+ ?", "", source)
    source = re.sub(r"\\f[A-Z]|\\f\([A-Z]{2}|\\&|\\[|/^]", "", source)
    return re.sub(r"\\-", "-", source).replace("\\e", "\\")


def chunks(text: str, chars: int = 1200, overlap: int = 200) -> list[str]:
    """Stretches of `chars` characters, each sharing `overlap` with the one before."""
    return [text[i : i + chars] for i in range(0, max(1, len(text) - overlap), chars - overlap)]


def keyword_query(text: str, rng: random.Random, words: int = 6) -> str | None:
    """Some words of one sentence, lower-cased, in their order; None if no sentence has as many."""
    sentences = [re.findall(r"[^\W\d_]{2,}", s) for s in re.split(r"[.!?;:]\s", text)]
    long_enough = [s for s in sentences if len(s) >= words]
    if not long_enough:
        return None
    sentence = rng.choice(long_enough)
    kept = sorted(rng.sample(range(len(sentence)), words))
    return " ".join(sentence[i] for i in kept).lower()
