"""Pages of documents that are to be embedded, rendered here when their turn comes."""

from collections.abc import Iterable, Iterator
from typing import Literal

from cluster.core import Fingerprint, page_id
from cluster.errors import UnreadableDocument
from cluster.ids import doc_id_of, sha256_of
from cluster.settings import Settings
from cluster.sources import list_sources, local_copy
from cluster.store.schema import PATH_BYTES, TITLE_BYTES, VARCHAR_BYTES
from cluster.text.terms import cut_utf8
from jobs.rendering.client import DocumentInfo, Renderer, RenderLimits
from jobs.rendering.pages import PageReader
from jobs.rendering.target import page_target
from jobs.vector_files.row import RowFacts
from jobs.vector_files.work import Work, WorkItem
from models.inputs import MultimodalInput
from models.registry import ModelSpec

SeenBy = Literal["embedder", "late-interaction"]


class PageItems:
    """Opens documents; close it, or use it in a `with` block. Not thread-safe.

    An embedder sees pages as an ingest shows them; `quire vectors` shows late interaction those of
    an OCR engine.
    """

    def __init__(
        self, settings: Settings, seen_by: SeenBy, spec: ModelSpec, fingerprint: Fingerprint
    ) -> None:
        """Raise InvalidInput where OCR is wanted and not installed."""
        limits = RenderLimits.from_settings(settings)
        self._renderer = Renderer(limits)
        self._reader = PageReader(limits) if seen_by == "late-interaction" else None
        self._target = page_target(settings, spec, fingerprint)
        self._page_chars = spec.page_chars
        self._max_bytes = settings.max_document_bytes

    def __enter__(self) -> "PageItems":
        return self

    def __exit__(self, *error: object) -> None:
        self._renderer.close()
        if self._reader is not None:
            self._reader.__exit__()

    def items(self, paths: Iterable[str]) -> Iterator[WorkItem]:
        """Yield every page of the documents under `paths`; the same bytes once.

        Raises NotFound for a path at which there is nothing.
        """
        seen: set[str] = set()
        for source in list_sources(paths):
            try:
                with local_copy(source, self._max_bytes) as path:
                    sha256 = sha256_of(path)
                    if sha256 not in seen:
                        seen.add(sha256)
                        yield from self._pages(source, path, sha256)
            except (OSError, UnreadableDocument) as error:
                yield WorkItem(source, source, failure=str(error))

    def _pages(self, source: str, path: str, sha256: str) -> Iterator[WorkItem]:
        info = self._renderer.check(path)
        doc_id = doc_id_of(sha256)
        facts = RowFacts(
            id="-",
            doc_id=doc_id,
            sha256=sha256,
            page=1,
            title=cut_utf8(info.title, TITLE_BYTES),
            source=cut_utf8(source, PATH_BYTES),
            pages=info.pages,
        )
        for page in range(1, info.pages + 1):
            row_id = page_id(doc_id, page)
            named = facts.model_copy(update={"id": row_id, "page": page})

            def load(named: RowFacts = named) -> Work:
                return self._load(path, info, named)

            yield WorkItem(row_id, source, load)

    def _load(self, path: str, info: DocumentInfo, facts: RowFacts) -> Work:
        if self._reader is not None:
            pixels = self._reader.read(path, facts.page, pages=info.pages)
            facts = facts.model_copy(update={"text": cut_utf8(pixels.text, VARCHAR_BYTES)})
            return Work(facts, pixels.rgb)
        self._renderer.start_shard()  # long documents are no slow ones
        rendered = self._renderer.render(path, facts.page, self._target)
        known = {
            "text": cut_utf8(rendered.text, VARCHAR_BYTES),
            "width_px": rendered.jpeg_width,
            "height_px": rendered.jpeg_height,
        }
        content = MultimodalInput(text=rendered.text[: self._page_chars], images=(rendered.pixels,))
        return Work(facts.model_copy(update=known), content)
