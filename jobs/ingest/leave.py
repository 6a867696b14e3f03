"""What an ingest that ends early leaves behind: settled, or cleared away."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cluster.core import Document
from cluster.errors import QuireError
from cluster.ids import mark
from cluster.pages.files import PageFiles
from cluster.settings import Settings
from cluster.store.deletion import tenant_mark
from cluster.store.milvus import MilvusStore, open_store
from jobs.ingest.context import IngestContext
from jobs.ingest.finish import DocumentFinisher
from jobs.ingest.ledger import Ledger
from jobs.ingest.request import Stopped


@contextmanager
def settled(
    context: IngestContext, store: MilvusStore, finisher: DocumentFinisher, ledger: Ledger
) -> Iterator[None]:
    """Clear up where what is done within ends early, while its watch can be asked."""
    try:
        yield
    except BaseException as error:
        with suppress(QuireError):  # what ended the ingest is what its caller must know
            store.patient(0)
            ledger.end_early()
            leave_early(context, store, finisher, ledger, error)
        raise
    finally:
        context.watch.close()


def leave_early(
    context: IngestContext,
    store: MilvusStore,
    finisher: DocumentFinisher,
    ledger: Ledger,
    error: BaseException,
) -> None:
    """Clear away what an ingest that ends early leaves of documents that are gone.

    Documents of a job that ends for good are not being indexed any more.
    """
    paused = isinstance(error, Stopped) and error.stop == "pause"
    if context.is_job and not paused:
        why = "it was stopped before all of it was in: index it again"
        finisher.stop(context.ingest_id, context.tenant, why)
    finisher.sweep(_left_open(context, ledger))
    if tenant_mark(store, context.tenant) != context.tenant_mark:
        PageFiles.from_settings(context.settings).forget_tenant(context.tenant)


def _left_open(context: IngestContext, ledger: Ledger) -> list[Document]:
    """Return the documents that were checked and have not ended."""
    left = set(ledger.open_sources)
    marks = (mark("ingest", context.ingest_id),)
    return [
        Document(doc_id, "", source, tenant=context.tenant, marks=marks)
        for doc_id, source in context.watch.sources().items()
        if source in left
    ]


def stop_ingest(settings: Settings, tenant: str, ingest_id: str) -> None:
    """Settle the documents of an ingest that was paused and will not go on."""
    settings = settings.with_absolute_paths()
    with open_store(settings) as store:
        if store.stored() is not None:
            finisher = DocumentFinisher(settings, store, tenant, ())
            finisher.stop(ingest_id, tenant, "it was stopped before all of it was in")
