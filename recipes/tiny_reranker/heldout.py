"""Held-out pages, queries on them, and what quire-tiny finds: the material of `quality.py`."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pymupdf
import torch
from PIL import Image

from benchmarks import corpus
from benchmarks.reference import PlainEmbedder
from benchmarks.screenshots import screenshot
from recipes.tiny.command import CHECKPOINTS
from recipes.tiny.quality import SOURCE_DPI, embed
from recipes.tiny_reranker.candidates import EASTERN

EMBEDDER = CHECKPOINTS / "quire-tiny"
QUERY_SEEDS = (0, 1)
PAGE_TEXT_CHARS = 2400
SECTIONS = 200
SPAN_CHARS = 18
EASTERN_HELP = {
    "Japanese": ("gimp-help-ja", "libreoffice-help-ja"),
    "Korean": ("gimp-help-ko", "libreoffice-help-ko"),
}


@dataclass(frozen=True)
class Collection:
    """Pages, queries on them and cosines of quire-tiny; `pattern` finds words for BM25."""

    name: str
    texts: list[str]
    queries: list[str]
    answers: list[int]
    dense: torch.Tensor
    pattern: str = r"\w+"
    images: list[Image.Image] = field(default_factory=list)
    shots: list[Image.Image] = field(default_factory=list)
    shot_dense: torch.Tensor = field(default_factory=lambda: torch.zeros(0))


def held_out_pages(cache: Path) -> Collection:
    """Held-out English manuals: two keyword queries and a screenshot of each page."""
    texts, images, shots = [], [], []
    rng = random.Random(0)
    for pdf in corpus.held_out_pdfs(cache):
        with pymupdf.open(pdf) as document:
            for page in document.pages():
                picture = page.get_pixmap(dpi=SOURCE_DPI).pil_image().convert("RGB")
                texts.append(corpus.tidy(page.get_text()))
                shots.append(screenshot(picture, SOURCE_DPI, rng))
                images.append(picture.resize((picture.width // 2, picture.height // 2)))
    queries, answers = [], []
    for seed in QUERY_SEEDS:
        rng = random.Random(seed)
        for number, text in enumerate(texts):
            query = corpus.keyword_query(text, rng)
            if query is not None:
                queries.append(query)
                answers.append(number)
    path = cache / "held_out_dense.pt"
    if not path.exists():
        embedder = PlainEmbedder.from_folder(EMBEDDER, resize=True)
        rows, owners = _rows(embedder, texts, images)
        dense = _best(torch.stack([embed(embedder, query) for query in queries]), rows, owners)
        seen = torch.stack([embed(embedder, image=shot) for shot in shots])
        shot_dense = _best(seen, rows, owners)
        torch.save((dense, shot_dense), path)
    dense, shot_dense = torch.load(path, weights_only=True)
    return Collection(
        "English", texts, queries, answers, dense, images=images, shots=shots, shot_dense=shot_dense
    )


def eastern_pages(cache: Path, rng: random.Random) -> list[Collection]:
    """Held-out Japanese and Korean help, each section with a stretch of its characters as query."""
    embedder = PlainEmbedder.from_folder(EMBEDDER, resize=True)
    out = []
    for name, packages in EASTERN_HELP.items():
        corpus.fetch(cache, packages)
        sections = [text for package in packages for text in _sections(cache, package)]
        texts = rng.sample(sections, min(SECTIONS, len(sections)))
        queries = [_span(text, rng) for text in texts]
        rows, owners = _rows(embedder, texts, [])
        dense = _best(torch.stack([embed(embedder, query) for query in queries]), rows, owners)
        # A run of Japanese or Korean has no spaces: pairs of characters stand for words.
        pairs = r"(?=(\w\w))"
        out.append(Collection(name, texts, queries, list(range(len(texts))), dense, pairs))
    return out


def _sections(cache: Path, package: str) -> list[str]:
    """Page-sized sections of the held-out HTML files of a package in its language."""
    sections = []
    for path in sorted((cache / "unpacked" / package).rglob("*.html")):
        held_out = corpus.split(str(path.relative_to(cache))) == "held-out"
        if path.is_symlink() or not path.is_file() or not held_out:
            continue
        text = corpus.tidy(corpus.html_text(path.read_text(errors="ignore")))[
            : corpus.SECTION_CHARS
        ]
        if len(EASTERN.findall(text)) > 200:
            sections.append(text)
    return list(dict.fromkeys(sections))


def _span(text: str, rng: random.Random) -> str:
    start = rng.randrange(max(1, min(len(text), PAGE_TEXT_CHARS) - SPAN_CHARS))
    return text[start : start + SPAN_CHARS]


def _rows(
    embedder: PlainEmbedder, texts: Sequence[str], images: Sequence[Image.Image]
) -> tuple[torch.Tensor, torch.Tensor]:
    rows, owners = [], []
    for number, text in enumerate(texts):
        image = images[number] if images else None
        found = [embed(embedder, text[:PAGE_TEXT_CHARS], image)]
        found += [embed(embedder, chunk) for chunk in corpus.chunks(text)]
        rows += found
        owners += [number] * len(found)
    return torch.stack(rows), torch.tensor(owners)


def _best(queries: torch.Tensor, rows: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
    """(Q, pages): a page counts by the best of its rows."""
    scores = queries @ rows.T
    best = torch.full((len(queries), int(owners.max()) + 1), -torch.inf)
    return best.scatter_reduce(1, owners.expand(len(queries), -1), scores, "amax")
