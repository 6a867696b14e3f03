"""How well the checkpoint reads held-out pages: `python -m recipes.tiny_colqwen3.quality`.

Pages are images only. A query, six words of one of a page's sentences, must find its page by
MaxSim, and each of its words must light up the cell of the page where it stands.
"""

import argparse
import json
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pymupdf
import torch
from colpali_engine.models import ColQwen3, ColQwen3Processor
from PIL import Image

from benchmarks.corpus import held_out_pdfs, keyword_query, tidy
from models.retrieval.metrics import RankingMetrics
from recipes.tiny.command import CHECKPOINTS
from recipes.tiny.images import BLOCK_PX
from recipes.tiny_colqwen3.boxes import Floats, word_boxes

SOURCE_DPI = 150
# A strongest cell this near to a word's box, in cells, still points at the word.
_NEAR = 0.5
# A word on at most this share of the pages is rare.
_RARE = 0.05


@dataclass(frozen=True)
class SeenPage:
    """Vectors (cells, 320) of a page, its rows and columns of cells, and its words and boxes."""

    vectors: torch.Tensor
    rows: int
    columns: int
    words: list[str]
    boxes: Floats


class PageReader:
    """One page or query at a time through ColQwen3 and its processor, in float32."""

    def __init__(self, checkpoint: Path) -> None:
        self._processor = ColQwen3Processor.from_pretrained(checkpoint)
        self._model = ColQwen3.from_pretrained(checkpoint, dtype=torch.float32).eval()

    @torch.inference_mode()
    def read(self, page: pymupdf.Page) -> SeenPage:
        """The page as an image, with what its text layer says in the image's cells."""
        picture: Image.Image = page.get_pixmap(dpi=SOURCE_DPI).pil_image()
        inputs = self._processor.process_images([picture])
        _, rows, columns = (inputs["image_grid_thw"][0] // torch.tensor([1, 2, 2])).tolist()
        mask = self._processor.get_image_mask(inputs)[0]
        vectors = self._model(**inputs)[0][mask]
        words, boxes = word_boxes(page, rows * BLOCK_PX, columns * BLOCK_PX)
        return SeenPage(vectors, rows, columns, words, boxes / np.float32(BLOCK_PX))

    @torch.inference_mode()
    def ask(self, query: str) -> torch.Tensor:
        """(tokens, 320) vectors of a query, augmentation included."""
        vectors: torch.Tensor = self._model(**self._processor.process_queries([query]))[0]
        return vectors

    @torch.inference_mode()
    def spell(self, word: str) -> torch.Tensor:
        """(tokens, 320) vectors of a word."""
        vectors: torch.Tensor = self._model(**self._processor.process_texts([word]))[0]
        return vectors


def measure(
    checkpoint: Path, cache: Path, max_pages: int = 500, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Retrieval by MaxSim alone, words pointed at, and seconds a page on one thread."""
    rng = random.Random(seed)
    reader = PageReader(checkpoint)
    pages: list[SeenPage] = []
    queries: list[str] = []
    gold: list[int] = []
    started = time.perf_counter()
    for pdf in held_out_pdfs(cache, max_pages):
        with pymupdf.open(pdf) as document:
            for page in document.pages():
                query = keyword_query(tidy(page.get_text()), rng)
                if query is not None:
                    queries.append(query)
                    gold.append(len(pages))
                pages.append(reader.read(page))
    seconds = (time.perf_counter() - started) / len(pages)
    scores = torch.stack([maxsim(reader.ask(query), pages) for query in queries])
    return {
        "pages": {"pages": float(len(pages)), "seconds a page": seconds},
        "retrieval": _retrieval(scores, gold),
        **_pointing(reader, queries, [pages[number] for number in gold], _rare_words(pages)),
    }


def maxsim(query: torch.Tensor, pages: Sequence[SeenPage]) -> torch.Tensor:
    """(pages,) sums over query tokens of the largest cosine with any visual token of a page."""
    return torch.stack([(query @ page.vectors.T).amax(1).sum() for page in pages])


def _retrieval(scores: torch.Tensor, gold: Sequence[int]) -> dict[str, float]:
    metrics = RankingMetrics.of_scores(scores.tolist(), gold)
    return {
        "queries": float(metrics.queries),
        "recall@1": metrics.recall_1,
        "recall@1 by chance": 1 / scores.shape[1],
        "recall@10": metrics.recall_10,
        "recall@10 by chance": 10 / scores.shape[1],
        "mrr": metrics.mrr,
    }


def _rare_words(pages: Sequence[SeenPage]) -> set[str]:
    counts = Counter(word for page in pages for word in set(map(_letters, page.words)))
    return {word for word, count in counts.items() if count <= _RARE * len(pages)}


def _letters(word: str) -> str:
    return "".join(re.findall(r"[^\W\d_]+", word)).lower()


def _pointing(
    reader: PageReader, queries: Sequence[str], pages: Sequence[SeenPage], rare: set[str]
) -> dict[str, dict[str, float]]:
    """How often the strongest cell for a word is on it or near, and how often any cell would be."""
    found: dict[str, list[tuple[bool, float]]] = {"all words": [], "rare words": []}
    for query, page in zip(queries, pages, strict=True):
        for word in query.split():
            near = near_cells(word, page)
            if near.any():
                strongest = (reader.spell(word) @ page.vectors.T).sum(0).argmax().item()
                hit = (bool(near.flat[int(strongest)]), float(near.mean()))
                found["all words"].append(hit)
                if word in rare:
                    found["rare words"].append(hit)
    return {
        f"pointing, {name}": {
            "words": float(len(hits)),
            "on the word": float(np.mean([hit for hit, _ in hits])),
            "by chance": float(np.mean([share for _, share in hits])),
        }
        for name, hits in found.items()
    }


def near_cells(word: str, page: SeenPage) -> np.ndarray:
    """(rows, columns): whether a cell is within half a cell of a place where the word stands."""
    row, column = np.mgrid[: page.rows, : page.columns]
    near = np.zeros((page.rows, page.columns), bool)
    for other, (left, top, right, bottom) in zip(page.words, page.boxes, strict=True):
        if _letters(other) == word:
            near |= (
                (column < right + _NEAR)
                & (column + 1 > left - _NEAR)
                & (row < bottom + _NEAR)
                & (row + 1 > top - _NEAR)
            )
    return near


def main() -> None:
    """Print the figures of the checkpoint in the repository."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=CHECKPOINTS / "quire-tiny-colqwen3",
    )
    parser.add_argument("--cache", type=Path, default=Path(".cache/tiny"), help="downloads")
    parser.add_argument("--max-pages", type=int, default=500)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measure(args.checkpoint, args.cache, args.max_pages), indent=2))


if __name__ == "__main__":
    main()
