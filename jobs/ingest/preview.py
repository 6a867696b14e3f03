"""What an ingest would do, without doing it: documents, pages, and how long that may take."""

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster.errors import NotFound, UnreadableDocument
from cluster.ids import doc_id_of, sha256_of
from cluster.pages.files import PageFiles
from cluster.plan import load_plan
from cluster.settings import Settings
from cluster.sources import list_sources, local_copy
from cluster.store.milvus import MilvusStore, open_existing_store
from jobs.ingest.readings import wanted_readings
from jobs.ingest.request import IngestRequest
from jobs.ingest.todo import TaskFinder
from jobs.ingest.unchanged import UnchangedFinder
from jobs.rendering.client import Renderer, RenderLimits
from jobs.report_file import read_entries


@dataclass
class Preview:
    """`documents` by what becomes of them; `pages` to render and embed, `others` to do in part.

    `seconds` is None where no ingest of this collection and no plan says how fast it goes, `cost`
    (in the currency of the plan's prices) where there is no plan.
    """

    documents: Counter[str] = field(default_factory=Counter)
    pages: int = 0
    others: int = 0
    seconds: float | None = None
    cost: float | None = None


def preview_ingest(settings: Settings, request: IngestRequest) -> Preview:
    """Look at every document as an ingest would. Raises NotFound or InvalidInput."""
    preview = Preview()
    seen: set[str] = set()
    sources = list_sources(request.paths, request.pattern)
    with _store_if_any(settings) as store, Renderer(RenderLimits.from_settings(settings)) as pages:
        files = PageFiles.from_settings(settings)
        readings = wanted_readings(settings)
        finder = store and TaskFinder(settings, readings, store, files, reindex=request.reindex)
        if store and UnchangedFinder.is_wanted(request):
            unchanged = UnchangedFinder(settings, request, readings, store)
            found = {each.source for outcomes in unchanged.find(sources) for each in outcomes}
            preview.documents.update({"unchanged": len(found)} if found else {})
            sources = [source for source in sources if source not in found]
        for source in sources:
            try:
                with local_copy(source, settings.max_document_bytes) as path:
                    info = pages.check(path)  # first: it refuses what is no file, or too large
                    doc_id = doc_id_of(sha256_of(path))
                    stored = store.document(request.tenant, doc_id) if store else None
                    if doc_id in seen:
                        preview.documents["same bytes"] += 1
                    elif stored and stored.pages and finder:
                        tasks = finder.tasks(stored)
                        preview.documents["to complete" if tasks else "unchanged"] += 1
                        preview.pages += len(tasks.pop("page", ()))
                        preview.others += sum(map(len, tasks.values()))
                    else:
                        preview.pages += info.pages
                        preview.documents["new"] += 1
                    seen.add(doc_id)
            except UnreadableDocument as error:
                preview.documents[error.reason.replace("_", " ")] += 1
            except OSError:
                preview.documents["unreadable"] += 1
    _price(preview, settings)
    return preview


@contextmanager
def _store_if_any(settings: Settings) -> Iterator[MilvusStore | None]:
    try:
        with open_existing_store(settings) as store:
            yield store if store.stored() else None
    except NotFound:
        yield None


def _price(preview: Preview, settings: Settings) -> None:
    """Add time and money, from the plan or from the last ingest of this collection."""
    if settings.plan:
        ingest = load_plan(Path(settings.plan)).ingest
        if ingest is not None:
            preview.seconds = preview.pages / ingest.pages_per_s
            preview.cost = ingest.cost * preview.pages / max(1, ingest.pages)
            return
    rate = _last_rate(settings)
    preview.seconds = preview.pages / rate if rate else None


def _last_rate(settings: Settings) -> float:
    """Return the pages a second of the last ingest of this collection that embedded any."""
    for path in sorted((settings.data_dir / "reports").glob("ingest-*.jsonl"), reverse=True):
        (last,) = deque(read_entries(path), maxlen=1) or ({},)
        summary = last.get("summary", {})
        if summary.get("new_pages") and summary["collection"] == settings.collection:
            return float(summary["pages_per_s"])
    return 0.0
