"""Reproduce quire-tiny-colqwen3: `python -m recipes.tiny_colqwen3.train --cache DIR --out DIR`.

Packages → texts → tokenizer → printed pages → codes → reader → checkpoint → quality. What is in the
cache is kept, so an interrupted run goes on where it stopped; it may be quire-tiny's cache.
"""

import json
import logging
import time
from itertools import chain
from pathlib import Path

import torch
from tokenizers import Tokenizer

from benchmarks import corpus
from recipes.tiny import command
from recipes.tiny.command import CHECKPOINTS
from recipes.tiny.train import load_tokenizer
from recipes.tiny_colqwen3 import assembly, quality
from recipes.tiny_colqwen3.architecture import colqwen3_config
from recipes.tiny_colqwen3.codes import Codes, letter_codes, spellings
from recipes.tiny_colqwen3.letters import Letters
from recipes.tiny_colqwen3.pages import PrintedPages, manual_pages, print_pages, typeset_pages
from recipes.tiny_colqwen3.reader import Reader, train_reader, train_spelling
from recipes.tiny_colqwen3.typeset import FONT_PACKAGES
from recipes.tiny_colqwen3.windows import Phase

log = logging.getLogger(__name__)

MANUAL_PAGES = 2600
TYPESET_PAGES = 1500
SPELLING = Phase(rows=4, columns=12, batch=12, steps=2300)
PHASES = (
    Phase(rows=4, columns=12, batch=12, steps=1700),
    Phase(rows=12, columns=23, batch=3, steps=120),
)


def load_pages(
    cache: Path, texts: list[corpus.PageText], tokenizer: Tokenizer, seed: int
) -> PrintedPages:
    """Pages of manuals and typeset ones, printed unless they are there."""
    folder = cache / "printed"
    if not (folder / "tokens.npz").exists():
        manuals = manual_pages(cache, tokenizer, MANUAL_PAGES, seed)
        typeset = typeset_pages(cache, texts, tokenizer, TYPESET_PAGES, seed + 1)
        print_pages(chain(manuals, typeset), folder)
    return PrintedPages(folder)


def load_reader(
    cache: Path, pages: PrintedPages, tokenizer: Tokenizer, codes: Codes, seed: int
) -> Reader:
    """The trained reader."""
    reader = Reader(colqwen3_config(tokenizer), codes, seed)
    path = cache / "reader.pt"
    if not path.exists():
        letters = Letters(spellings(tokenizer))
        train_spelling(reader, pages, letters, SPELLING, seed + 7)
        snapshot = cache / "reader.snapshot.pt"
        train_reader(reader, pages, letters, PHASES, seed, snapshot=snapshot)
        torch.save(reader.state_dict(), path)
    reader.load_state_dict(torch.load(path, weights_only=True))
    return reader


def train(cache: Path, out: Path, seed: int) -> None:
    """Run every step and write the checkpoint to `out`."""
    started = time.monotonic()
    packages = (*corpus.MANUAL_PACKAGES, *corpus.EASTERN_PACKAGES, *FONT_PACKAGES)
    corpus.fetch(cache, packages)
    texts = [*corpus.manual_texts(cache), *corpus.eastern_texts(cache)]
    tokenizer = load_tokenizer(cache, texts)
    pages = load_pages(cache, texts, tokenizer, seed)
    log.info("%d pages printed after %.0f s", len(pages), time.monotonic() - started)
    codes = letter_codes(tokenizer, pages.token_sets(), seed)
    reader = load_reader(cache, pages, tokenizer, codes, seed)
    log.info("reader trained after %.0f s", time.monotonic() - started)
    model = assembly.build(tokenizer, codes, reader.export())
    model.half().save_pretrained(out)
    assembly.colqwen3_processor(tokenizer).save_pretrained(out)
    log.info("quality %s", json.dumps(quality.measure(out, cache)))


if __name__ == "__main__":
    command.run(
        train,
        description=__doc__,
        out=CHECKPOINTS / "quire-tiny-colqwen3",
    )
