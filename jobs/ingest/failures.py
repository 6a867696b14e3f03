"""Documents that failed, whole or in some pages: listed, and ingested again."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence

from cluster.core import Document, Filter
from cluster.settings import Settings
from cluster.store.milvus import open_existing_store
from jobs.ingest.report import IngestReport
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest


def list_failures(settings: Settings, tenant: str | None) -> list[Document]:
    """List the documents of which something is not in the index. Raises NotFound."""
    with open_existing_store(settings) as store:
        batches = store.each_document(Filter(tenant=tenant), with_error=True)
        return sorted(
            (document for documents in batches for document in documents),
            key=lambda document: (document.tenant, document.source),
        )


def retry_failures(settings: Settings, failed: Sequence[Document]) -> Iterator[IngestReport]:
    """Ingest them again, together where tenant, tags and metadata are the same; these stay."""
    groups: dict[str, list[Document]] = defaultdict(list)
    for document in failed:
        carried = [document.tenant, document.tags, document.metadata]
        groups[json.dumps(carried, sort_keys=True)].append(document)
    for documents in groups.values():
        request = IngestRequest(
            tuple(dict.fromkeys(document.source for document in documents)),
            tenant=documents[0].tenant,
            tags=documents[0].tags,
            metadata=documents[0].metadata,
            is_listed=True,
        )
        yield run_ingest(settings, request)
