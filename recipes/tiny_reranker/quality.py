"""What reranking does to searches on held-out pages: `python -m recipes.tiny_reranker.quality`.

Each search's first 20 pages are reranked, one pair at a time in float32. Pages with equal scores
count by the mean over all orders. What a search ranked below 20 stays where it was.
"""

import argparse
import logging
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.reference import PlainReranker
from models.inputs import MultimodalInput
from models.retrieval.metrics import RankingMetrics, possible_ranks
from recipes.tiny.command import CHECKPOINTS
from recipes.tiny_reranker.candidates import DOCUMENT_CHARS, Ints, bm25_weights
from recipes.tiny_reranker.heldout import Collection, eastern_pages, held_out_pages

log = logging.getLogger(__name__)

DEPTH = 20
INSTRUCTION = "Given a search query, retrieve relevant candidates that answer the query."


@dataclass(frozen=True)
class Task:
    """Queries, the page that answers each, and what a first search gave every page."""

    name: str
    queries: Sequence[MultimodalInput]
    answers: Sequence[int]
    documents: Sequence[MultimodalInput]
    scores: torch.Tensor


def words_bm25(queries: Sequence[str], texts: Sequence[str], pattern: str = r"\w+") -> torch.Tensor:
    """(Q, pages) BM25 over the matches of a pattern."""
    known: dict[str, int] = {}

    def numbers(text: str) -> Ints:
        words = re.findall(pattern, text.lower())
        return np.array([known.setdefault(word, len(known)) for word in words] or [0], np.int32)

    pages, asked = [numbers(text) for text in texts], [numbers(query) for query in queries]
    weights = bm25_weights(pages, len(known) + 1)
    return torch.from_numpy(np.stack([weights[:, tokens].sum(1) for tokens in asked]))


def fused(first: torch.Tensor, second: torch.Tensor, weight: float, k: int = 60) -> torch.Tensor:
    """Reciprocal rank fusion; the second ranking weighs `weight`."""
    ranks = [(-scores).argsort(1).argsort(1) + 1 for scores in (first, second)]
    return 1 / (k + ranks[0]) + weight / (k + ranks[1])


def figures(ranks: Sequence[range]) -> str:
    """MRR, nDCG@5 and Recall@1 as columns."""
    metrics = RankingMetrics.of(ranks)
    return f"{metrics.mrr:.3f} | {metrics.ndcg_5:.3f} | {metrics.recall_1:.3f}"


def map_texts(texts: Sequence[str]) -> list[MultimodalInput]:
    """Texts as inputs."""
    return [MultimodalInput(text=text) for text in texts]


def rerank(task: Task, reranker: PlainReranker, known: dict[tuple[int, int], float]) -> str:
    """A row of the table: the search alone and reranked; `known` keeps scores between searches."""
    before: list[range] = []
    after: list[range] = []
    answers: list[bool] = []
    others: list[bool] = []
    for number, (query, answer) in enumerate(zip(task.queries, task.answers, strict=True)):
        ranks = possible_ranks(task.scores[number].tolist(), float(task.scores[number][answer]))
        best = task.scores[number].topk(min(DEPTH, len(task.documents))).indices.tolist()
        for page in best:
            if (number, page) not in known:
                known[number, page] = reranker.logit(query, task.documents[page], INSTRUCTION)
        scores = torch.tensor([known[number, page] for page in best])
        before.append(ranks)
        after.append(
            possible_ranks(scores.tolist(), float(scores[best.index(answer)]))
            if answer in best
            else ranks
        )
        for page, score in zip(best, scores.sigmoid().tolist(), strict=True):
            (answers if page == answer else others).append(score > 0.5)
    return (
        f"| {task.name} ({len(before)}) | {figures(before)} | {figures(after)} | "
        f"{np.mean(answers):.2f} / {np.mean(others):.2f} |"
    )


def keyword_tasks(pages: Collection, every: int) -> list[Task]:
    """Keyword queries over the text of pages: dense, BM25, and both."""
    texts = [text[:DOCUMENT_CHARS] for text in pages.texts]
    chosen = slice(None, None, every)
    queries, answers = pages.queries[chosen], pages.answers[chosen]
    dense = pages.dense[chosen]
    lexical = words_bm25(queries, pages.texts, pages.pattern)
    searches = {"dense": dense, "BM25": lexical, "hybrid": fused(lexical, dense, 0.02)}
    items, documents = map_texts(queries), map_texts(texts)
    return [
        Task(f"{pages.name}, {name}", items, answers, documents, scores)
        for name, scores in searches.items()
    ]


def screenshot_tasks(pages: Collection, every: int) -> list[Task]:
    """Screenshots alone, and with words of their page, over pages as image and text."""
    documents = [
        MultimodalInput(text[:DOCUMENT_CHARS], (image,))
        for text, image in zip(pages.texts, pages.images, strict=True)
    ]
    numbers = list(range(0, len(pages.shots), every))
    shots = [MultimodalInput("", (pages.shots[number],)) for number in numbers]
    scores = pages.shot_dense[numbers]
    query_of = {answer: query for query, answer in zip(pages.queries, pages.answers, strict=True)}
    both = [MultimodalInput(query_of.get(n, ""), (pages.shots[n],)) for n in numbers]
    return [
        Task(f"{pages.name}, screenshot", shots, numbers, documents, scores),
        Task(f"{pages.name}, screenshot and words", both, numbers, documents, scores),
    ]


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".cache/tiny"), help="downloads, stages")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=CHECKPOINTS / "quire-tiny-reranker",
    )
    parser.add_argument("--every", type=int, default=1, help="take every n-th keyword query")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    reranker = PlainReranker(args.checkpoint, resize=True)
    english = held_out_pages(args.cache)
    eastern = eastern_pages(args.cache, random.Random(0))
    groups = [keyword_tasks(english, args.every)]
    groups += [keyword_tasks(collection, max(1, args.every // 2)) for collection in eastern]
    groups += [[task] for task in screenshot_tasks(english, 2 * args.every)]
    print("| queries, search | MRR | nDCG@5 | R@1 | MRR | nDCG@5 | R@1 | > 0.5 answer / other |")
    print("|---|---|---|---|---|---|---|---|")
    for group in groups:
        known: dict[tuple[int, int], float] = {}
        for task in group:
            print(rerank(task, reranker, known), flush=True)


if __name__ == "__main__":
    main()
