"""Retrieval on held-out manuals: how often the page that a query was made from is found.

    python -m benchmarks.retrieval [--cache DIR] [--model quire-tiny] [--pages 500] [--json]

About 500 pages of TeX Live manuals that quire-tiny was never trained on are indexed as an ingest
does it: a row of each page (image and text) and a row of each chunk of its text. Every page gives
three queries. Two are six words of one of its sentences: searched by full text alone, by vectors
alone, and by both for each fusion and weight. A screenshot is a part of the page at 50 to 75 dpi,
slightly turned, after JPEG: searched by vectors alone. A query counts as found only by the page it
was made from, although others may hold the same words. Manuals repeat themselves, so pages with
equal scores are common: such a page counts by the mean over all orders of its equals, not by the
order in which the store happens to name them. MRR counts ranks up to 100.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pymupdf
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.corpus import held_out_pdfs, keyword_query, tidy
from benchmarks.screenshots import screenshot
from cluster.core import Document, Fingerprint, Hit, Query, Row, page_id
from cluster.ids import doc_id_of, sha256_of
from cluster.pages.files import PageFiles
from cluster.settings import Settings, load_settings
from cluster.store.milvus import MilvusStore, open_store
from cluster.text.chunks import chunk_text
from jobs.rendering.client import Renderer, RenderLimits, RenderTarget
from models.inputs import EncodedInput, MultimodalInput
from models.options import EmbedderOptions, RerankerOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from models.qwen3_vl.reranker import Qwen3VLReranker
from models.registry import ModelSpec
from models.retrieval.metrics import RankingMetrics, possible_ranks
from models.retrieval.retriever import Retriever, local_first_stage, local_second_stage

SCREEN_DPI = 150  # what screenshots are cut from
DEPTH = 100
WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
KEYWORD_SEEDS = (0, 1)  # one keyword query of a page for each
RERANK_K = 20
PROGRESS = Console(stderr=True)
BAR_DENSE_RECALL_10 = 0.60
BAR_SCREENSHOT_RECALL_10 = 0.80


@dataclass(frozen=True)
class HeldOutPage:
    """One page in the index; `page` counts from 1."""

    pdf: Path
    document: Document
    page: int
    text: str


@dataclass(frozen=True)
class Figures:
    """How well one way to search finds the pages of one kind of query."""

    kind: str
    search: str
    metrics: RankingMetrics


class RememberingEmbedder:
    """Embeds each text once, for a sweep that asks the same queries again."""

    def __init__(self, embedder: Qwen3VLEmbedder) -> None:
        self._embedder = embedder
        self._known: dict[str, np.ndarray] = {}

    @property
    def fingerprint(self) -> Fingerprint:
        return self._embedder.fingerprint

    @property
    def spec(self) -> ModelSpec:
        return self._embedder.spec

    def encode(self, item: MultimodalInput) -> EncodedInput:
        return self._embedder.encode(item)

    def embed_encoded(self, items: Sequence[EncodedInput]) -> np.ndarray:
        return self._embedder.embed_encoded(items)

    def embed(self, items: Sequence[MultimodalInput]) -> np.ndarray:
        return np.concatenate([self._vector(item) for item in items])

    def _vector(self, item: MultimodalInput) -> np.ndarray:
        if item.images:
            return self._embedder.embed([item])
        if item.text not in self._known:
            self._known[item.text] = self._embedder.embed([item])
        return self._known[item.text]


def index(
    pdfs: Sequence[Path], store: MilvusStore, embedder: Qwen3VLEmbedder, settings: Settings
) -> list[HeldOutPage]:
    """Render, embed and write every page of the manuals."""
    pages: list[HeldOutPage] = []
    images = PageFiles.from_settings(settings)
    target = RenderTarget(embedder.spec.min_pixels, embedder.fingerprint.max_pixels)
    with Renderer(RenderLimits()) as renderer:
        for pdf in track(pdfs, "Indexing", console=PROGRESS, transient=True):
            sha256 = sha256_of(str(pdf))
            document = Document(doc_id_of(sha256), sha256, str(pdf))
            for number in range(1, renderer.check(str(pdf)).pages + 1):
                rendered = renderer.render(str(pdf), number, target)
                page = HeldOutPage(pdf, document, number, rendered.text)
                images.put(document.tenant, document.doc_id, number, rendered.jpeg)
                store.write_rows(rows_of_page(page, rendered.pixels, embedder, settings))
                pages.append(page)
    return pages


def rows_of_page(
    page: HeldOutPage, pixels: np.ndarray, embedder: Qwen3VLEmbedder, settings: Settings
) -> list[Row]:
    """The page's own row and those of its chunks, embedded together."""
    chunks = chunk_text(page.text, chars=settings.chunk_chars, overlap=settings.chunk_overlap)
    beside = page.text[: embedder.spec.page_chars]
    inputs = [MultimodalInput(text=beside, images=(pixels,))]
    vectors = embedder.embed(inputs + [MultimodalInput(text=chunk) for chunk in chunks])
    height, width = pixels.shape[:2]
    return [
        Row(page.document, page.page, number, text, vector, width, height)
        for number, (text, vector) in enumerate(zip([page.text, *chunks], vectors, strict=True))
    ]


def keyword_queries(pages: Sequence[HeldOutPage]) -> list[tuple[Query, str]]:
    """Queries and the pages that they were made from, for every page with a sentence."""
    queries = []
    for seed in KEYWORD_SEEDS:
        rng = random.Random(seed)
        for page in pages:
            words = keyword_query(tidy(page.text), rng)
            if words is not None:
                queries.append((Query(text=words), page_id(page.document.doc_id, page.page)))
    return queries


def screenshot_queries(pages: Sequence[HeldOutPage]) -> Iterator[tuple[Query, str]]:
    """A part of each page as a person would cut it out of a screen, and the page it is of."""
    rng = random.Random(0)
    for pdf, same in groupby(pages, lambda page: page.pdf):
        with pymupdf.open(pdf) as document:
            for page in same:
                pixmap = document[page.page - 1].get_pixmap(dpi=SCREEN_DPI)
                shot = screenshot(pixmap.pil_image().convert("RGB"), SCREEN_DPI, rng)
                yield Query(image=shot), page_id(page.document.doc_id, page.page)


def ranks_of(query: Query, gold: str, retriever: Retriever, settings: Settings) -> range:
    """The ranks, from 1, among pages of equal score; empty beyond the first 100."""
    hits = retriever.hits(query, settings)
    reranked = {hit.page_id: hit.rerank for hit in hits if hit.rerank is not None}
    if gold in reranked:
        return possible_ranks(reranked.values(), reranked[gold])
    others = {hit.page_id: score_of(hit) for hit in hits if hit.rerank is None}
    if gold not in others:
        return range(0)
    found = possible_ranks(others.values(), others[gold])
    return range(found.start + len(reranked), found.stop + len(reranked))


def score_of(hit: Hit) -> float:
    """The score of the first stage that made a hit's rank."""
    made_by = (hit.fused, hit.dense, hit.text_score)
    return next(score for score in made_by if score is not None)


def searches(settings: Settings) -> dict[str, Settings]:
    """Every way to search for keywords, by name."""
    ways: dict[str, dict[str, object]] = {
        "full text (BM25)": {"mode": "text"},
        "dense": {"mode": "dense"},
    }
    for fusion in ("rrf", "weights"):
        for weight in WEIGHTS:
            ways[name_of(fusion, weight)] = {
                "mode": "hybrid",
                "fusion": fusion,
                "dense_weight": weight,
            }
    return {name: settings.model_copy(update=changes) for name, changes in ways.items()}


def name_of(fusion: str, dense_weight: float) -> str:
    return f"hybrid, {fusion}, dense {dense_weight:g}"


def measure(
    pages: Sequence[HeldOutPage], retriever: Retriever, settings: Settings
) -> dict[str, Figures]:
    """Figures by the name of the search."""
    keywords = keyword_queries(pages)
    figures = {}
    ways = list(searches(settings).items())
    for name, asked in track(ways, "Keywords", console=PROGRESS, transient=True):
        ranks = [ranks_of(query, gold, retriever, asked) for query, gold in keywords]
        figures[name] = Figures("keywords", name, RankingMetrics.of(ranks))
    dense = settings.model_copy(update={"mode": "dense"})
    shots = track(
        screenshot_queries(pages), "Screenshots", len(pages), console=PROGRESS, transient=True
    )
    ranks = [ranks_of(query, gold, retriever, dense) for query, gold in shots]
    figures["screenshot"] = Figures("screenshots", "dense", RankingMetrics.of(ranks))
    return figures


def measure_reranking(
    pages: Sequence[HeldOutPage], retriever: Retriever, settings: Settings, most: int
) -> list[Figures]:
    """Every first stage alone and with its top 20 reranked, for the same queries."""
    keywords = _some(keyword_queries(pages), most)
    shots = _some(list(screenshot_queries(pages)), most // 3)
    both = [
        (Query(text=words.text, image=shot.image), gold)
        for words, (shot, gold) in zip(_texts_for(shots, pages), shots, strict=True)
        if words is not None
    ]
    asked: list[tuple[str, str, list[tuple[Query, str]]]] = [
        *(("keywords", mode, keywords) for mode in ("dense", "text", "hybrid")),
        ("screenshots", "dense", shots),
        ("screenshots and keywords", "hybrid", both),
    ]
    figures = []
    for kind, mode, queries in track(asked, "Reranking", console=PROGRESS, transient=True):
        for rerank in ("none", "cross-encoder"):
            chosen = {"mode": mode, "rerank": rerank, "rerank_k": RERANK_K}
            way = settings.model_copy(update=chosen)
            ranks = [ranks_of(query, gold, retriever, way) for query, gold in queries]
            name = mode if rerank == "none" else f"{mode}, top {RERANK_K} reranked"
            figures.append(Figures(kind, name, RankingMetrics.of(ranks)))
    return figures


def _some(queries: list[tuple[Query, str]], most: int) -> list[tuple[Query, str]]:
    """Evenly spread over all manuals."""
    return queries[:: max(1, len(queries) // most)]


def _texts_for(shots: list[tuple[Query, str]], pages: Sequence[HeldOutPage]) -> list[Query | None]:
    """Keywords of the page that each screenshot is of."""
    words = {gold: query for query, gold in reversed(keyword_queries(pages))}
    return [words.get(gold) for _, gold in shots]


def bars(figures: dict[str, Figures], settings: Settings, weight: float) -> dict[str, bool]:
    """What was promised of the default search, whose dense weight is the model's own."""
    text, dense, shot = figures["full text (BM25)"], figures["dense"], figures["screenshot"]
    hybrid = figures[name_of(settings.fusion, weight)]
    return {
        "hybrid ≥ full text at Recall@10": hybrid.metrics.recall_10 >= text.metrics.recall_10,
        "hybrid ≥ full text at MRR": hybrid.metrics.mrr >= text.metrics.mrr,
        f"dense Recall@10 ≥ {BAR_DENSE_RECALL_10}": dense.metrics.recall_10 >= BAR_DENSE_RECALL_10,
        f"screenshot Recall@10 ≥ {BAR_SCREENSHOT_RECALL_10}": shot.metrics.recall_10
        >= BAR_SCREENSHOT_RECALL_10,
    }


def rerank_bars(figures: Sequence[Figures]) -> dict[str, bool]:
    """What was promised of reranking the top of dense search for words."""
    alone, reranked = figures[0], figures[1]
    return {
        "reranked dense > dense at MRR": reranked.metrics.mrr > alone.metrics.mrr,
        "reranked dense > dense at nDCG@5": reranked.metrics.ndcg_5 > alone.metrics.ndcg_5,
    }


def to_table(figures: Sequence[Figures], title: str) -> Table:
    table = Table(title=title)
    for name in ("queries", "search"):
        table.add_column(name)
    for name in ("Recall@1", "Recall@10", "MRR", "nDCG@5"):
        table.add_column(name, justify="right")
    for row in figures:
        found = (row.metrics.recall_1, row.metrics.recall_10, row.metrics.mrr, row.metrics.ndcg_5)
        scores = (f"{score:.3f}" for score in found)
        table.add_row(f"{row.metrics.queries} {row.kind}", row.search, *scores)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path(".cache/tiny"), help="downloads")
    parser.add_argument("--model", default="quire-tiny")
    parser.add_argument("--pages", type=int, default=500)
    parser.add_argument("--page-chars", type=int, help="text beside a page's image, in characters")
    parser.add_argument("--reranker", default="quire-tiny-reranker")
    parser.add_argument(
        "--reranked", type=int, default=200, help="queries to rerank for; 0: none, and no table"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    embedder = Qwen3VLEmbedder(EmbedderOptions(model=args.model))
    if args.page_chars is not None:
        embedder.spec = replace(embedder.spec, page_chars=args.page_chars)
    pdfs = held_out_pdfs(args.cache, args.pages)
    with tempfile.TemporaryDirectory(prefix="quire-benchmark-") as folder:
        settings = load_settings(store=folder, top_k=DEPTH)
        with open_store(settings) as store:
            store.open_collection(embedder.fingerprint)
            pages = index(pdfs, store, embedder, settings)
            first = local_first_stage(RememberingEmbedder(embedder))
            figures = measure(pages, Retriever(lambda: store, first), settings)
            reranked = []
            if args.reranked:
                reranker = Qwen3VLReranker(RerankerOptions(model=args.reranker))
                images = PageFiles.from_settings(settings)
                second = local_second_stage(reranker.spec, lambda: reranker, images)
                both = Retriever(lambda: store, first, second)
                reranked = measure_reranking(pages, both, settings, args.reranked)
    kept = bars(figures, settings, embedder.spec.dense_weight)
    kept |= rerank_bars(reranked) if reranked else {}
    if args.json:
        rows = [asdict(row) for row in (*figures.values(), *reranked)]
        print(json.dumps({"pages": len(pages), "figures": rows, "bars": kept}, indent=2))
        return
    console = Console()
    library = f"{len(pages)} pages of {len(pdfs)} manuals"
    console.print(to_table(list(figures.values()), f"{library}, {args.model}"))
    if reranked:
        console.print(to_table(reranked, f"{library}, {args.reranker}"))
    for bar, held in kept.items():
        console.print(f"{bar}: {'met' if held else 'MISSED'}")


if __name__ == "__main__":
    main()
