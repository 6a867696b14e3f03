"""Reproduce quire-tiny: `python -m recipes.tiny.train --cache DIR --out DIR`.

Packages → texts → tokenizer → bag of words → page images → look → checkpoint → quality. What is in
the cache is kept, so an interrupted run goes on where it stopped.
"""

import json
import logging
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer

from benchmarks import corpus
from recipes.tiny import architecture, bag, circuit, command, images, quality
from recipes.tiny.command import CHECKPOINTS
from recipes.tiny.look import LookModel, train_look
from recipes.tiny.pairs import Phase
from recipes.tiny.tokenizer import train_tokenizer

log = logging.getLogger(__name__)

VOCAB_SIZE = 12288
BAG_STEPS = 6000
LOOK_PHASES = (
    Phase(share=0.45, steps=227, batch=64, lr=1.5e-3),
    Phase(share=0.7, steps=120, batch=64, lr=1.5e-3),
    Phase(share=1.0, steps=180, batch=48, lr=1.5e-3),
)
TRAIN_PAGES = 9000


def load_tokenizer(cache: Path, texts: list[corpus.PageText]) -> Tokenizer:
    """The tokenizer, trained on every fourth page of the manuals and every second other text."""
    path = cache / "tokenizer.json"
    if not path.exists():
        manuals = [text.text for text in texts if text.path is not None]
        eastern = [text.text for text in texts if text.path is None]
        train_tokenizer(manuals[::4] + eastern[::2], VOCAB_SIZE).save(str(path))
    return Tokenizer.from_file(str(path))


def load_table(
    cache: Path, texts: list[corpus.PageText], tokenizer: Tokenizer, seed: int
) -> torch.Tensor:
    """(V, WORD_DIMS) bag-of-words table."""
    path = cache / "bag.pt"
    if not path.exists():
        documents = bag.passages(texts, tokenizer)
        table = bag.train_bag(documents, VOCAB_SIZE, architecture.WORD_DIMS, BAG_STEPS, seed)
        torch.save(table, path)
    stored: torch.Tensor = torch.load(path, weights_only=True)
    return stored


def load_look(cache: Path, tokenizer: Tokenizer, seed: int) -> circuit.Look:
    """The trained vision side."""
    model = LookModel(architecture.tiny_config(tokenizer), seed)
    path = cache / "look.pt"
    if not path.exists():
        pdfs = corpus.training_pdfs(cache)
        pages = images.render_all(
            pdfs, cache / "images", architecture.MAX_PIXELS, TRAIN_PAGES, seed
        )
        train_look(model, pages, architecture.MAX_PIXELS, LOOK_PHASES, seed)
        torch.save(model.state_dict(), path)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.export()


def train(cache: Path, out: Path, seed: int) -> None:
    """Run every step and write the checkpoint to `out`."""
    started = time.monotonic()
    corpus.fetch(cache, corpus.MANUAL_PACKAGES + corpus.EASTERN_PACKAGES)
    texts = [*corpus.manual_texts(cache), *corpus.eastern_texts(cache)]
    log.info("%d pages of text after %.0f s", len(texts), time.monotonic() - started)
    tokenizer = load_tokenizer(cache, texts)
    table = load_table(cache, texts, tokenizer, seed)
    log.info("words trained after %.0f s", time.monotonic() - started)
    look = load_look(cache, tokenizer, seed)
    log.info("look trained after %.0f s", time.monotonic() - started)
    model = circuit.build(tokenizer, table, look)
    model.half().save_pretrained(out)
    architecture.tiny_processor(tokenizer).save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    log.info("quality %s", json.dumps(quality.measure(out, cache)))


if __name__ == "__main__":
    command.run(
        train,
        description=__doc__,
        out=CHECKPOINTS / "quire-tiny",
    )
