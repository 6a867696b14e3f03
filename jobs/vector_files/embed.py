"""Embed texts or documents into a file, without any store; what is done is not done again."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jobs.progress import Step
from jobs.vector_files.head import FileHead
from jobs.vector_files.open import open_writer
from jobs.vector_files.partial import PartialFolder, Tally
from jobs.vector_files.row import VectorRow
from jobs.vector_files.vectorizers import Vectorizer
from jobs.vector_files.work import Work, WorkItem, load_item

BATCH_ITEMS = 32  # loaded and embedded at once
PART_ROWS = 1024  # of which an interruption loses the last ones


@dataclass(frozen=True)
class LoadedBatch:
    """Items that are open, each with its work and what the model takes; and why others failed."""

    works: list[tuple[WorkItem, Work, Any]]
    failures: list[tuple[WorkItem, str]]


def embed_items(
    items: Iterable[WorkItem],
    vectorizer: Vectorizer,
    out: Path,
    *,
    batch_items: int = BATCH_ITEMS,
    part_rows: int = PART_ROWS,
    step: Step = lambda *_: None,
) -> Tally:
    """Embed items in batches into parts of about `part_rows` rows, at last into one file.

    While a batch is embedded the next one is loaded. Raises InvalidInput, FingerprintMismatch,
    FilesUnavailable or OutOfMemory; items that cannot be opened are in the tally.
    """
    partial = PartialFolder(out, vectorizer.fingerprint)
    rows: list[VectorRow] = []
    tally = Tally()
    for batch in _load_batches(partial.skip_done(items), vectorizer, batch_items):
        rows += _embed(batch, vectorizer, tally)
        step("embedded", partial.rows + len(rows), 0)
        if len(rows) >= part_rows:
            partial.add(rows, tally)
            rows, tally = [], Tally()
    if rows or tally.failed or not partial.parts:
        partial.add(rows, tally)
    head = FileHead(vectorizer.fingerprint)
    with open_writer(str(out), head, partial.rows, batch_rows=part_rows) as writer:
        for done in partial.batches():
            writer.write(done)
    partial.remove()
    return partial.tally


def _load_batches(
    items: Iterator[WorkItem], vectorizer: Vectorizer, batch_items: int
) -> Iterator[LoadedBatch]:
    def load() -> LoadedBatch:
        batch = LoadedBatch([], [])
        for item in islice(items, batch_items):
            loaded = load_item(item, vectorizer.prepare)
            if isinstance(loaded, str):
                batch.failures.append((item, loaded))
            else:
                batch.works.append((item, *loaded))
        return batch

    with ThreadPoolExecutor(1, thread_name_prefix="loading") as host:
        loading = host.submit(load)
        while (batch := loading.result()).works or batch.failures:
            loading = host.submit(load)
            yield batch


def _embed(batch: LoadedBatch, vectorizer: Vectorizer, tally: Tally) -> list[VectorRow]:
    rows = _embed_works(batch, vectorizer, tally) if batch.works else []
    for item, why in batch.failures:
        tally.fail(item, why)
    return rows


def _embed_works(batch: LoadedBatch, vectorizer: Vectorizer, tally: Tally) -> list[VectorRow]:
    vectors, tokens = vectorizer.embed([prepared for _, _, prepared in batch.works])
    for (item, _, _), count in zip(batch.works, tokens, strict=True):
        counts = tally.source(item.source)
        counts.rows += 1
        counts.tokens += count
    return [
        VectorRow(work.facts, vector)
        for (_, work, _), vector in zip(batch.works, vectors, strict=True)
    ]
