"""Readings of rendered pages, and the stage for those that need a model on a device.

It lies between rendering and embedding, with a process of its own: the embedder never waits for
what another model's pages cost the host.
"""

import time
from collections.abc import Sequence

from cluster.errors import InvalidInput, NotFound, QuireError
from jobs.ingest.context import IngestContext
from jobs.ingest.readings import PageInput, Reading, ReadingModels
from jobs.ingest.rows import Batch, PageWork, from_texts, to_texts
from jobs.ingest.watch import Watched

PageToRead = tuple[PageWork, PageInput]


class ReadPages:
    """Rendered pages → the same pages with what models on a device read of them."""

    def __init__(self, context: IngestContext) -> None:
        self.context = context
        self.watched = Watched(context.watch, "reading")
        self._models = ReadingModels(context.settings)
        self._readings = [each for each in context.readings if each.runs_on == "device"]
        self._failure: QuireError | None = None
        try:
            with self.watched.starting():
                self._load()
        except QuireError as error:
            # Ray turns what a constructor raises into "actor died": the first call raises it.
            self._failure = error

    def _load(self) -> None:
        from models.engine.device import limit_gpu_memory, use_threads

        use_threads(self.context.threads)
        limit_gpu_memory(self.context.gpu.reading_memory)
        for reading in self._readings:
            reading.load(self._models)

    def __call__(self, batch: Batch) -> Batch:
        if self._failure is not None:
            raise self._failure
        rows = from_texts(batch["row"])
        works = [
            (row, PageInput(row.key, picture, scan, row.text))
            for row, picture, scan in zip(rows, batch["picture"], batch["scan"], strict=True)
            if isinstance(row, PageWork) and (picture or scan) and not row.reason
        ]
        self.watched.each([page for page, _ in works], works, self._read)
        return {"row": to_texts(rows), "pixels": batch["pixels"]}

    def _read(self, works: list[PageToRead]) -> None:
        started = time.perf_counter()
        read_pages(self._readings, works, self._models)
        seconds = (time.perf_counter() - started) / len(works)
        halved = {each.model: each.tokens for each in self._models.budgets if each.halved}
        for page, _ in works:
            page.seconds["read"] = page.seconds.get("read", 0.0) + seconds
            page.halved_tokens |= halved


def read_pages(
    readings: Sequence[Reading], pages: Sequence[PageToRead], models: ReadingModels
) -> None:
    """Read pages before their rows are written; what fails of one is in its reason.

    Raises OutOfMemory.
    """
    for reading in readings:
        left = [(page, given) for page, given in pages if not page.reason]
        if not left:
            return
        try:
            _read_together(reading, left, models)
        except (NotFound, InvalidInput):  # of one: which, shows when each is read by itself
            for page, given in left:
                _read_alone(reading, page, given, models)


def _read_together(reading: Reading, pages: Sequence[PageToRead], models: ReadingModels) -> None:
    values = reading.read([given for _, given in pages], models)
    for (page, _), of_page in zip(pages, values, strict=True):
        page.readings |= of_page


def _read_alone(reading: Reading, page: PageWork, given: PageInput, models: ReadingModels) -> None:
    try:
        _read_together(reading, [(page, given)], models)
    except NotFound:
        page.fail("gone", "it was forgotten while it was ingested")
    except InvalidInput as error:
        page.fail("unreadable", str(error))
