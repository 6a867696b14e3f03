"""Documents whose source has vanished from the folders that were ingested."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import fsspec

from cluster.core import Document, Filter
from cluster.errors import InvalidInput
from cluster.settings import Settings
from cluster.sources import absolute_source, list_sources
from cluster.store.milvus import MilvusStore
from jobs.forget import Forgetter, RemovedDocument
from jobs.ingest.request import IngestRequest


def find_vanished(store: MilvusStore, request: IngestRequest) -> list[Document]:
    """List the documents of a tenant from below these folders that are not there any more.

    Raises InvalidInput where nothing at all is left below them: a share that is not mounted looks
    like that.
    """
    roots = [_folder(path) for path in request.paths]
    sources = set(list_sources(request.paths, request.pattern))
    if not sources:
        raise InvalidInput(
            f"there is no document below {', '.join(request.paths)}: is it mounted? Nothing is "
            "pruned"
        )
    below = [
        document
        for documents in store.each_document(Filter(tenant=request.tenant))
        for document in documents
        if _is_below(document, roots, request.pattern) and document.source not in sources
    ]
    return [document for document in below if not _exists(document.source)]


def forget_vanished(
    settings: Settings, store: MilvusStore, vanished: Sequence[Document]
) -> Iterator[RemovedDocument]:
    """Forget documents, one after the other; yields what went with each."""
    forgetter = Forgetter(settings, store)
    for document in vanished:
        yield forgetter.forget(document)


def _folder(path: str) -> str:
    """Return a folder as the sources below it begin."""
    fs, root = fsspec.core.url_to_fs(path)
    source = absolute_source(fs.unstrip_protocol(root))
    return source.rstrip("/") + "/"


def _is_below(document: Document, roots: Sequence[str], pattern: str) -> bool:
    is_below = any(document.source.startswith(root) for root in roots)
    return is_below and (not pattern or PurePosixPath(document.source).match(pattern))


def _exists(source: str) -> bool:
    fs, path = fsspec.core.url_to_fs(source)
    return bool(fs.exists(path))
