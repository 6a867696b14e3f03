"""Does the strongest region of a page fall on what was asked for? For each method of evidence.

    python -m benchmarks.evidence [--pages 60]

Pages are made up: sentences in many places and sizes, one of them asked for. A hit is a strongest
region whose middle lies on that sentence, or within half a cell of it. Chance is the share of the
page that this covers. Late interaction sees the page as an image, at one tile and at four; the
embedder's map is that of quire-tiny.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pymupdf
from rich.console import Console
from rich.table import Table

from cluster.pages.vectors import Box
from cluster.pages.words import PageWord, from_bytes, matched_words
from jobs.rendering.client import Renderer, RenderLimits, RenderTarget
from models.evidence.regions import Evidence, of_states, of_words
from models.inputs import MultimodalInput
from models.late_interaction.model import ColPaliModel
from models.late_interaction.search import token_evidence
from models.options import EmbedderOptions, LateInteractionOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder

TEXTS = Path(__file__).parent.parent / "jobs" / "demo" / "texts"
WIDTH, HEIGHT = 595, 842
SENTENCE_WORDS = 5
ROWS = 26
HALF_CELL = 1 / 46
TARGET = RenderTarget(min_pixels=1024, max_pixels=64 * 1024, keep_pixels=2 * 2**20)


@dataclass(frozen=True)
class Page:
    """A PDF of one page, what is asked for, and where that stands."""

    pdf: bytes
    question: str
    place: Box


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--model", default="quire-tiny-colqwen3")
    args = parser.parse_args()
    late = ColPaliModel(LateInteractionOptions(model=args.model))
    embedder = Qwen3VLEmbedder(EmbedderOptions())
    hits: dict[str, list[bool]] = {}
    chances = []
    for page, jpeg, words in rendered(make_pages(args.pages, seed=0)):
        chances.append(area(page.place))
        found = {
            "words": of_words(matched_words(words, page.question)),
            "embedder (quire-tiny)": of_states(
                embedder.similarities(MultimodalInput(text=page.question), jpeg)
            ),
        }
        for tiles in (1, 4):
            found[f"late interaction, tiles {tiles}"] = late_evidence(late, page, jpeg, tiles)
        for method, evidence in found.items():
            hits.setdefault(method, []).append(is_hit(evidence, page))
    table = Table(title=f"strongest region on what was asked for, {args.pages} pages")
    for column in ("method", "rate", "chance"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, each in hits.items():
        table.add_row(method, f"{np.mean(each):.2f}", f"{np.mean(chances):.3f}")
    Console().print(table)


def make_pages(count: int, seed: int) -> list[Page]:
    """Pages of sentences that stand in no order, each in a size of its own."""
    rng = np.random.default_rng(seed)
    words = " ".join(file.read_text() for file in sorted(TEXTS.glob("*.txt"))).split()
    words = [word.strip(".,:;()|*#`\"'") for word in words]
    words = [word for word in words if word.isascii() and word.isalpha() and len(word) > 3]
    return [_page(words, rng) for _ in range(count)]


def _page(words: list[str], rng: np.random.Generator) -> Page:
    document = pymupdf.open()
    page = document.new_page(width=WIDTH, height=HEIGHT)
    asked = int(rng.integers(ROWS))
    question, place = "", (0.0, 0.0, 0.0, 0.0)
    for row in range(ROWS):
        text = " ".join(rng.choice(words, SENTENCE_WORDS, replace=False))
        size = float(rng.uniform(10, 13))
        width = pymupdf.get_text_length(text, fontname="helv", fontsize=size)
        left = float(rng.uniform(30, max(31, WIDTH - 30 - width)))
        foot = 40 + row * (HEIGHT - 70) / ROWS + size
        page.insert_text((left, foot), text, fontname="helv", fontsize=size)
        if row == asked:
            question = text.lower()
            place = (left / WIDTH, (foot - size) / HEIGHT, (left + width) / WIDTH, foot / HEIGHT)
    return Page(document.tobytes(), question, place)


def rendered(pages: list[Page]) -> Iterator[tuple[Page, bytes, list[PageWord]]]:
    """Each page with its JPEG and its words."""
    with TemporaryDirectory() as folder, Renderer(RenderLimits()) as renderer:
        for number, page in enumerate(pages):
            path = Path(folder) / f"{number}.pdf"
            path.write_bytes(page.pdf)
            found = renderer.render(str(path), 1, TARGET)
            yield page, found.jpeg, from_bytes(found.words)


def late_evidence(model: ColPaliModel, page: Page, jpeg: bytes, tiles: int) -> Evidence:
    """As `LateSearch.evidence`, of vectors that were not stored."""
    (seen,) = model.embed_images([jpeg], tiles=tiles)
    return token_evidence(model, page.question, seen.vectors, seen.tiles)


def is_hit(evidence: Evidence, page: Page) -> bool:
    """Whether the middle of the strongest region lies on what was asked for."""
    if not evidence.regions:
        return False
    left, top, right, bottom = evidence.regions[0].box
    x, y = (left + right) / 2, (top + bottom) / 2
    wide = _widened(page.place)
    return wide[0] <= x <= wide[2] and wide[1] <= y <= wide[3]


def _widened(place: Box) -> Box:
    left, top, right, bottom = place
    return left - HALF_CELL, top - HALF_CELL, right + HALF_CELL, bottom + HALF_CELL


def area(place: Box) -> float:
    """The share of a page that counts as on a place: what chance would hit."""
    left, top, right, bottom = _widened(place)
    return (right - left) * (bottom - top)


if __name__ == "__main__":
    main()
