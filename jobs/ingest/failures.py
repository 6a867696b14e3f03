"""Documents that failed, whole or in some pages: listed, and ingested again."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from cluster.core import Document, Filter
from cluster.settings import Settings
from cluster.store.milvus import open_existing_store
from jobs.ingest.report import IngestReport
from jobs.ingest.run import IngestRequest, run_ingest


def list_failures(settings: Settings, tenant: str | None) -> list[Document]:
    """List the documents of which something is not in the index. Raises NotFound."""
    with open_existing_store(settings) as store:
        batches = store.each_document(Filter(tenant=tenant), with_error=True)
        return sorted(
            (document for documents in batches for document in documents),
            key=lambda document: (document.tenant, document.source),
        )


def retry_failures(settings: Settings, failed: Sequence[Document]) -> Iterator[IngestReport]:
    """Ingest them again, one ingest for each tenant; what they carry stays."""
    sources: dict[str, list[str]] = defaultdict(list)
    for document in failed:
        sources[document.tenant].append(document.source)
    for tenant, paths in sources.items():
        yield run_ingest(
            settings, IngestRequest(tuple(dict.fromkeys(paths)), tenant=tenant, is_listed=True)
        )
