"""What is to be done with the pages of a document that is in the index, whole or in part."""

from collections.abc import Sequence

from cluster.core import Document
from cluster.ids import find_mark, mark
from cluster.pages.files import PageFiles
from cluster.settings import Settings
from cluster.store.milvus import MilvusStore
from jobs.ingest.readings import Reading
from jobs.ingest.rows import Task

Tasks = dict[Task, list[int]]  # pages, from 1, by what is to be done with them


def chunk_recipe(settings: Settings) -> str:
    """Return what makes the chunks of a page's text."""
    return f"{settings.chunk_chars}/{settings.chunk_overlap}"


def _default_recipe() -> str:
    fields = Settings.model_fields
    return f"{fields['chunk_chars'].default}/{fields['chunk_overlap'].default}"


class TaskFinder:
    """Looks up what the index and the page files have of a document."""

    def __init__(
        self,
        settings: Settings,
        readings: Sequence[Reading],
        store: MilvusStore,
        files: PageFiles,
        *,
        reindex: bool,
    ) -> None:
        self._settings = settings
        self._readings = readings
        self._store = store
        self._files = files
        self._reindex = reindex

    def tasks(self, document: Document) -> Tasks:
        """List the pages of a stored document that this ingest has to do something with."""
        every = range(1, document.pages + 1)
        if self._reindex:
            return {"page": list(every)}
        done = self._done(document)
        kept = self._files.pages(document) if done else set()
        tasks: Tasks = {
            "page": [page for page in every if page not in done],
            "picture": sorted(done - kept),
            "chunks": [] if has_recipe(document, self._settings) else sorted(done),
        }
        return {task: pages for task, pages in tasks.items() if pages}

    def _done(self, document: Document) -> set[int]:
        """Return the pages that are in the index with everything that this ingest would read."""
        present = self._store.pages_present(document)
        for reading in self._readings:
            present &= reading.done(document, self._store, self._files)
        return present


def has_recipe(document: Document, settings: Settings) -> bool:
    """True where the chunks are as these settings would cut them; Quire 0.1 did not note how."""
    noted = find_mark(document.marks, "chunks") or mark("chunks", _default_recipe())
    return noted == mark("chunks", chunk_recipe(settings))
