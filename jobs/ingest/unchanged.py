"""Documents with which nothing is to be done, told by the stamps of their sources alone.

A stamp (size and time of a file, the ETag of an object) is kept with its document and believed: no
byte is read, and neither Ray nor a model starts for documents that are as they were. What a stamp
cannot tell (rows or page files that were lost) an ingest with `verify` finds.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from cluster.core import Document
from cluster.ids import find_mark, mark
from cluster.settings import Settings
from cluster.sources import stamp_of
from cluster.store.milvus import MilvusStore
from jobs.ingest.readings import Reading, reading_recipe
from jobs.ingest.request import IngestRequest
from jobs.ingest.rows import Outcome
from jobs.ingest.todo import has_recipe

TOGETHER = 1000  # documents that the store is asked about at once
STAMP_THREADS = 32  # of sources that lie elsewhere


class UnchangedFinder:
    """Finds them among the sources of an ingest, many at once."""

    def __init__(
        self,
        settings: Settings,
        request: IngestRequest,
        readings: Sequence[Reading],
        store: MilvusStore,
    ) -> None:
        self._settings = settings
        self._request = request
        self._store = store
        self._readings = mark("readings", reading_recipe(readings)) if readings else ""

    @staticmethod
    def is_wanted(request: IngestRequest) -> bool:
        """True where an ingest may leave out what is unchanged."""
        return not (request.reindex or request.verify or request.replaces)

    def find(self, sources: Sequence[str]) -> Iterator[list[Outcome]]:
        """Yield the outcomes of sources that are unchanged, as they are found."""
        parts = [sources[at : at + TOGETHER] for at in range(0, len(sources), TOGETHER)]
        with ThreadPoolExecutor(STAMP_THREADS, thread_name_prefix="stamp") as threads:
            answers = [threads.submit(self._look_up, part) for part in parts[:1]]
            for number, part in enumerate(parts):
                known = answers.pop().result()
                # The store is asked about the next ones while stamps of these are taken.
                answers = [
                    threads.submit(self._look_up, each) for each in parts[number + 1 : number + 2]
                ]
                # Of several documents one source has, the older ones are still to go.
                single = [(each, known[each][0]) for each in part if len(known[each]) == 1]
                ended = [
                    replace(document, source=source)
                    for source, document in single
                    if self._is_ended(document)
                ]
                remote = any("://" in document.source for document in ended)
                stamps = (threads.map if remote else map)(_stamp_mark, ended)
                yield [
                    Outcome(document)
                    for document, stamp in zip(ended, stamps, strict=True)
                    if stamp == find_mark(document.marks, "stamp")
                ]

    def _look_up(self, sources: Sequence[str]) -> dict[str, list[Document]]:
        return self._store.documents_of_sources(self._request.tenant, sources)

    def _is_ended(self, document: Document) -> bool:
        """True where all of a document is in as this ingest would have it, unless it changed."""
        request = self._request
        return (
            document.status == "indexed"
            and not document.error
            and (request.tags or document.tags) == document.tags
            and (request.metadata or document.metadata) == document.metadata
            and has_recipe(document, self._settings)
            and (not self._readings or find_mark(document.marks, "readings") == self._readings)
        )


def _stamp_mark(document: Document) -> str:
    """Return the mark of a source's stamp as it is now; "" where it cannot be read."""
    try:
        return mark("stamp", stamp_of(document.source))
    except OSError:
        return ""
