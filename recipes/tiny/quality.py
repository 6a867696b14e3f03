"""How well a checkpoint finds held-out pages: Recall@1, Recall@10 and MRR."""

import random
from collections.abc import Sequence
from pathlib import Path

import pymupdf
import torch
from PIL import Image

from benchmarks.corpus import chunks, held_out_pdfs, keyword_query, tidy
from benchmarks.reference import PlainEmbedder
from benchmarks.screenshots import screenshot
from models.inputs import MultimodalInput
from models.retrieval.metrics import RankingMetrics

PAGE_TEXT_CHARS = 3000
SOURCE_DPI = 150


def embed(
    embedder: PlainEmbedder, text: str | None = None, image: Image.Image | None = None
) -> torch.Tensor:
    """(HIDDEN,) vector of length 1: the hidden state of the last token."""
    images = () if image is None else (image,)
    return torch.from_numpy(embedder.embed(MultimodalInput(text=text or "", images=images)))


def measure(checkpoint: Path, cache: Path, seed: int = 0) -> dict[str, dict[str, float]]:
    """Keyword queries over page and chunk rows, and screenshot queries, on the held-out manuals."""
    rng = random.Random(seed)
    embedder = PlainEmbedder.from_folder(checkpoint, resize=True)
    rows: list[torch.Tensor] = []
    owners: list[int] = []
    words: list[torch.Tensor] = []
    word_gold: list[int] = []
    shots: list[torch.Tensor] = []
    for pdf in held_out_pdfs(cache):
        with pymupdf.open(pdf) as document:
            for page in document.pages():
                number = len(shots)
                text = tidy(page.get_text())
                picture = page.get_pixmap(dpi=SOURCE_DPI).pil_image().convert("RGB")
                rows.append(embed(embedder, text[:PAGE_TEXT_CHARS], picture))
                rows += [embed(embedder, chunk) for chunk in chunks(text)]
                owners += [number] * (len(rows) - len(owners))
                shots.append(embed(embedder, image=screenshot(picture, SOURCE_DPI, rng)))
                query = keyword_query(text, rng)
                if query is not None:
                    words.append(embed(embedder, query))
                    word_gold.append(number)
    return {
        "keywords": _figures(words, word_gold, rows, owners),
        "screenshots": _figures(shots, list(range(len(shots))), rows, owners),
    }


def _figures(
    queries: Sequence[torch.Tensor],
    gold: Sequence[int],
    rows: Sequence[torch.Tensor],
    owners: Sequence[int],
) -> dict[str, float]:
    scores = torch.stack(list(queries)) @ torch.stack(list(rows)).T
    pages = torch.full((len(scores), max(owners) + 1), -torch.inf)
    pages.scatter_reduce_(1, torch.tensor(owners).expand(len(scores), -1), scores, "amax")
    metrics = RankingMetrics.of_scores(pages.tolist(), gold)
    return {
        "queries": float(metrics.queries),
        "recall@1": metrics.recall_1,
        "recall@10": metrics.recall_10,
        "mrr": metrics.mrr,
    }
