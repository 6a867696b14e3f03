"""A small ingest runs in this process: the same stages, one after the other, without Ray.

Starting Ray and its workers takes longer than a few pages do.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from cluster.store.milvus import MilvusStore
from jobs.ingest.check import CheckDocuments
from jobs.ingest.context import IngestContext
from jobs.ingest.embed import EmbedPages, PageEmbedder
from jobs.ingest.ledger import Ledger
from jobs.ingest.read import ReadPages
from jobs.ingest.render import RenderPages
from jobs.ingest.rows import Batch, IngestRow, Outcome, Shard, from_texts, to_texts
from jobs.ingest.write import WritePages
from jobs.progress import ProgressView

MAX_SMALL_PAGES = 20
PAGES_TOGETHER = 4  # embedded at once


@dataclass(frozen=True)
class SmallIngest:
    """The stages of one ingest in this process."""

    context: IngestContext
    store: MilvusStore
    ledger: Ledger
    view: ProgressView
    look: Callable[[], None]  # sees whether to stop
    embedder: PageEmbedder | None = None  # one that is loaded already

    def run(self) -> None:
        """Ingest what is left, where that is at most MAX_SMALL_PAGES pages; else leave it so.

        Raises Stopped, and what the stages raise.
        """
        sources = self.ledger.open_sources
        if not 0 < len(sources) <= MAX_SMALL_PAGES:
            return
        with (
            ThreadPoolExecutor(1, thread_name_prefix="loading") as thread,
            closing(CheckDocuments(self.context)) as check,
        ):
            # What the store has never seen is likely to be embedded: the model loads meanwhile.
            known = self.store.documents_of_sources(self.context.tenant, sources)
            is_known = all(known.values())
            loading = None if is_known else thread.submit(EmbedPages, self.context, self.embedder)
            rows = list(check.check(sources))
            shards = [row for row in rows if isinstance(row, Shard)]
            if sum(len(shard.pages) for shard in shards) > MAX_SMALL_PAGES:
                return
            self._record(row for row in rows if isinstance(row, Outcome))
            if shards:
                loading = loading or thread.submit(EmbedPages, self.context, self.embedder)
                self._do_shards(shards, loading)
        self.ledger.settle(wait=True)
        self.view.update(self.ledger)

    def _do_shards(self, shards: Sequence[Shard], loading: "Future[EmbedPages]") -> None:
        """Render, read, embed and write pages; the embedder loads while the first are drawn."""
        write = WritePages(self.context)
        on_device = any(reading.runs_on == "device" for reading in self.context.readings)
        read = ReadPages(self.context) if on_device else None
        with closing(RenderPages(self.context)) as render:
            pages = (page for shard in shards for page in render({"row": to_texts([shard])}))
            for batch in _together(pages, PAGES_TOGETHER):
                self.look()
                batch = read(batch) if read is not None else batch
                self._record(from_texts(write(loading.result()(batch))["row"]))

    def _record(self, rows: Iterator[IngestRow] | Sequence[IngestRow]) -> None:
        for row in rows:
            self.ledger.record(row)
        self.ledger.settle()
        self.view.update(self.ledger)


def _together(batches: Iterator[Batch], size: int) -> Iterator[Batch]:
    """Join batches of one row to larger ones."""
    rows: list[Batch] = []
    for batch in batches:
        rows.append(batch)
        if len(rows) == size:
            yield _joined(rows)
            rows = []
    if rows:
        yield _joined(rows)


def _joined(batches: Sequence[Batch]) -> Batch:
    return {name: [batch[name][0] for batch in batches] for name in batches[0]}
