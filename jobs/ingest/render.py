"""The second stage of an ingest: shards → rendered pages; images and words are kept at once.

What is read of a page without a model on a device is read here, of the picture just made.

Hostile bytes are parsed only in the renderer's process. A page that fails travels on with its
reason, and the stages behind let it pass untouched.
"""

import os
import socket
from collections.abc import Generator, Iterator
from contextlib import ExitStack

from cluster.errors import UnreadableDocument
from cluster.pages.files import IMAGE, WORDS, PageFiles
from cluster.sources import local_copy, stamp_of, without_folders
from cluster.store.milvus import MilvusStore
from cluster.store.schema import is_cut
from jobs.ingest.check import cause_of
from jobs.ingest.context import IngestContext
from jobs.ingest.pixels import pack_pixels
from jobs.ingest.read import read_pages
from jobs.ingest.readings import PageInput, ReadingModels
from jobs.ingest.rows import Batch, PageWork, Shard, from_texts, to_batch
from jobs.ingest.watch import MAX_TRIES, Watched
from jobs.rendering.client import Renderer, RenderLimits


class RenderPages:
    """Shards → pages, one batch a page."""

    def __init__(self, context: IngestContext) -> None:
        self.context = context
        self.renderer = Renderer(RenderLimits.from_settings(context.settings))
        self.files = PageFiles.from_settings(context.settings)
        self.watched = Watched(context.watch, "rendering")
        self.store = MilvusStore(context.address, self.watched.get_on)
        self._models = ReadingModels(context.settings)
        self._readings = [each for each in context.readings if each.runs_on == "cpu"]
        later = [each for each in context.readings if each.runs_on == "device"]
        self._sends_scan = any(each.needs_scan for each in later)
        self._sends_picture = any(not each.needs_scan for each in later)
        self._copies = ExitStack()
        self._copied = ("", "")  # source and stamp of the document that `_path` is a copy of
        self._path = ""

    def close(self) -> None:
        """End the renderer's process."""
        self.renderer.close()

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        for row in from_texts(batch["row"]):
            if isinstance(row, Shard) and row.pages:
                yield from self._do_shard(row)
            else:
                yield to_batch(row)

    def _do_shard(self, shard: Shard) -> Iterator[Batch]:
        works = [
            PageWork(
                shard.document,
                shard.source,
                page,
                shard.task,
                shard.todo,
                shard.is_new,
                readings=shard.readings.get(page, {}),
            )
            for page in shard.pages
        ]
        if shard.task == "chunks":
            works = yield from self._take_texts(works)
        if works:
            yield from self._render_shard(shard, works)

    def _take_texts(self, works: list[PageWork]) -> Generator[Batch, None, list[PageWork]]:
        """Yield pages with the text that is kept; returns those of which only a part is."""
        document = works[0].document
        texts = self.store.texts(document, [work.page for work in works])
        cut = []
        for work in works:
            text = texts.get(work.page)
            if text is None or is_cut(text):
                work.task = "page"
                cut.append(work)
            else:
                work.text = text
                yield to_batch(work)
        return cut

    def _render_shard(self, shard: Shard, works: list[PageWork]) -> Iterator[Batch]:
        self.renderer.start_shard()
        try:
            with self.watched.working([f"copy of {shard.source}"]):
                path = self._local(shard.source, shard.stamp)
        except (OSError, UnreadableDocument) as error:
            cause = cause_of(error) if isinstance(error, OSError) else error
            for work in works:
                work.fail("unreadable", f"{cause}: ingest it again")
                yield to_batch(work)
            return
        for work in works:
            (tries,) = self.watched.tries([work.name])
            if tries >= MAX_TRIES:
                work.fail("worker_ended", f"it ended or blocked {tries} rendering workers")
                yield to_batch(work)
                continue
            with self.watched.working([work.name]):
                rendered = self._render(path, work, shard.stamp)
            yield rendered

    def _local(self, source: str, stamp: str) -> str:
        """A local path of the document that was checked; a fetched copy serves all its shards.

        Raises OSError, or UnreadableDocument where it changed since.
        """
        if stamp_of(source) != stamp:
            raise UnreadableDocument("changed", "it changed while it was ingested")
        if self._copied != (source, stamp):
            self._copies.close()
            limit = self.context.settings.max_document_bytes
            copy = local_copy(source, limit, self.watched.get_on)
            self._path = self._copies.enter_context(copy)
            self._copied = (source, stamp)
        return self._path

    def _render(self, path: str, work: PageWork, stamp: str) -> Batch:
        try:
            rendered = self.renderer.render(path, work.page, self.context.target)
        except UnreadableDocument as error:
            work.fail(error.reason, without_folders(str(error), path))
            if self._has_changed(path, work.source, stamp):
                work.fail("changed", "it changed while it was ingested: ingest it again")
            return to_batch(work)
        if self._has_changed(path, work.source, stamp):
            work.fail("changed", "it changed while it was ingested: ingest it again")
            return to_batch(work)
        self.files.put_all({(work.key, IMAGE): rendered.jpeg, (work.key, WORDS): rendered.words})
        work.seconds = {"render": rendered.render_s, "ocr": rendered.ocr_s}
        work.worker = f"{socket.gethostname()}:{os.getpid()}"
        if work.task == "picture":
            return to_batch(work)
        work.text, work.ocr_error = rendered.text, rendered.ocr_error
        work.width_px, work.height_px = rendered.jpeg_width, rendered.jpeg_height
        work.shape = rendered.pixels.shape
        given = PageInput(work.key, rendered.jpeg, rendered.scan, work.text)
        read_pages(self._readings, [(work, given)], self._models)
        return to_batch(
            work,
            pixels=pack_pixels(rendered.pixels),
            picture=rendered.jpeg if self._sends_picture else b"",
            scan=rendered.scan if self._sends_scan else b"",
        )

    def _has_changed(self, path: str, source: str, stamp: str) -> bool:
        """True where a file that is read in its place is another one by now, or gone."""
        try:
            return path == source and stamp_of(source) != stamp
        except OSError:
            return True
