"""Reproduce quire-tiny-reranker: `python -m recipes.tiny_reranker.train --cache DIR --out DIR`.

Packages → page images → look; texts → libraries of training manuals → matcher; checkpoint. The
cache is that of `recipes.tiny.train`, whose tokenizer and vision tower this reranker shares.
"""

import json
import logging
import random
import time
from pathlib import Path

import torch
from transformers import Qwen3VLModel

from benchmarks import corpus
from benchmarks.corpus import PageText
from recipes.tiny import command
from recipes.tiny.architecture import MAX_PIXELS, tiny_processor
from recipes.tiny.command import CHECKPOINTS
from recipes.tiny.images import render_all
from recipes.tiny.train import TRAIN_PAGES, load_table
from recipes.tiny_reranker import circuit
from recipes.tiny_reranker.candidates import Libraries, Ranking
from recipes.tiny_reranker.learning import train_matcher, train_score
from recipes.tiny_reranker.look import LookPooling, likeness, look_pairs, train_look
from recipes.tiny_reranker.matcher import Matcher
from recipes.tiny_reranker.tokenizer import reranker_tokenizer

log = logging.getLogger(__name__)

EMBEDDER = CHECKPOINTS / "quire-tiny"
LIBRARIES = 30
EPOCHS = 2
LOOK_BATCHES = 32
LOOK_STEPS = 300
SCORE_STEPS = 2000
SCORE_QUERIES = 8000


def load_texts(cache: Path) -> list[PageText]:
    """Pages of the training manuals and sections of the Japanese and Korean training texts."""
    path = cache / "texts.jsonl"
    if not path.exists():
        corpus.fetch(cache, corpus.MANUAL_PACKAGES + corpus.EASTERN_PACKAGES)
        texts = [*corpus.manual_texts(cache), *corpus.eastern_texts(cache)]
        lines = [json.dumps([t.doc, t.page, t.text, str(t.path or "")]) for t in texts]
        path.write_text("\n".join(lines) + "\n")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [PageText(doc, page, text, Path(pdf) if pdf else None) for doc, page, text, pdf in rows]


def load_look(cache: Path, seed: int) -> tuple[LookPooling, tuple[torch.Tensor, torch.Tensor]]:
    """The trained pooling, and how alike it finds screenshots to their own page and to others."""
    path = cache / "reranker_look.pt"
    if not path.exists():
        pdfs = corpus.training_pdfs(cache)
        images = render_all(pdfs, cache / "images", MAX_PIXELS, TRAIN_PAGES, seed)
        pairs = look_pairs(EMBEDDER, images, LOOK_BATCHES + 2, 48, seed)
        pooling = train_look(pairs[:LOOK_BATCHES], LOOK_STEPS, seed)
        torch.save((pooling.state_dict(), likeness(pooling, pairs[LOOK_BATCHES:])), path)
    state, samples = torch.load(path, weights_only=True)
    pooling = LookPooling(state["features"].shape[1], seed)
    pooling.load_state_dict(state)
    return pooling, samples


def load_rankings(cache: Path, seed: int) -> list[Ranking]:
    """Queries on training pages with their candidates."""
    tokenizer = reranker_tokenizer(EMBEDDER)
    texts = load_texts(cache)
    table = load_table(cache, texts, tokenizer, seed)
    libraries = Libraries(texts, tokenizer, table, seed)
    return [ranking for _ in range(LIBRARIES) for ranking in libraries.rankings()]


def load_matcher(
    cache: Path, samples: tuple[torch.Tensor, torch.Tensor], vocab_size: int, seed: int
) -> Matcher:
    """The trained matcher."""
    words, scored = cache / "matcher.pt", cache / "scored.pt"
    matcher = Matcher(torch.zeros(vocab_size), seed)
    if not scored.exists():
        rankings = load_rankings(cache, seed)
        if not words.exists():
            trained = train_matcher(rankings, vocab_size, EPOCHS, seed)
            torch.save(trained.state_dict(), words)
        matcher.load_state_dict(torch.load(words, weights_only=True))
        chosen = random.Random(seed).sample(rankings, SCORE_QUERIES)
        train_score(matcher, chosen, samples, SCORE_STEPS, seed)
        torch.save(matcher.state_dict(), scored)
    matcher.load_state_dict(torch.load(scored, weights_only=True))
    return matcher


def train(cache: Path, out: Path, seed: int) -> None:
    """Run every step and write the checkpoint to `out`."""
    started = time.monotonic()
    tokenizer = reranker_tokenizer(EMBEDDER)
    look, samples = load_look(cache, seed)
    log.info("look trained after %.0f s", time.monotonic() - started)
    matcher = load_matcher(cache, samples, tokenizer.get_vocab_size(), seed)
    log.info("matcher trained after %.0f s", time.monotonic() - started)
    visual = Qwen3VLModel.from_pretrained(EMBEDDER, dtype=torch.float32).visual
    model = circuit.build(tokenizer, matcher, look, visual, seed)
    model.half().save_pretrained(out)
    tiny_processor(tokenizer).save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)


if __name__ == "__main__":
    command.run(
        train,
        description=__doc__,
        out=CHECKPOINTS / "quire-tiny-reranker",
    )
