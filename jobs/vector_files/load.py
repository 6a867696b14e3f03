"""Bring a file of vectors into a collection of the same fingerprint."""

from cluster.errors import InvalidInput
from cluster.settings import Settings
from cluster.sources import absolute_source
from cluster.store.intake import Intake, IntakeCounts
from cluster.store.milvus import MilvusStore, open_store
from cluster.store.schema import check_document_fields
from jobs.progress import Step
from jobs.vector_files.head import BATCH_ROWS, VectorReader
from jobs.vector_files.open import open_reader


def import_file(
    settings: Settings,
    url: str,
    *,
    tenant: str | None = None,
    batch_rows: int = BATCH_ROWS,
    step: Step = lambda *_: None,
) -> IntakeCounts:
    """Import a file of Quire's own; `tenant` None takes the file's.

    The whole file is checked before anything is written. Raises NotFound, InvalidInput that names
    the row, or FingerprintMismatch.
    """
    with open_reader(url) as reader, open_store(settings) as store:
        if not reader.head.is_embedders:
            raise InvalidInput(
                f"the vectors are pooled multi-vectors ({reader.head.fingerprint}): a collection "
                "holds those of an embedder (quire embed --kind vector)"
            )
        store.check_fingerprint(reader.head.fingerprint)
        return bring_in(store, reader, url, tenant, batch_rows=batch_rows, step=step)


def bring_in(
    store: MilvusStore,
    reader: VectorReader,
    url: str,
    tenant: str | None,
    *,
    batch_rows: int,
    step: Step,
) -> IntakeCounts:
    """Check every row, then write documents, then rows; the file is read three times.

    Raises InvalidInput that names the row, or FingerprintMismatch.
    """
    check_document_fields(tenant or "", (), {})
    fingerprint, has_chunk_vectors = reader.head.fingerprint, reader.head.chunk_vectors
    is_there = store.stored() is not None
    needs_all = store.required().chunk_vectors if is_there else has_chunk_vectors
    number = 0
    for batch in reader.batches(batch_rows):
        for row in batch:
            number += 1
            if row.vector is None and (needs_all or not row.facts.chunk):
                raise InvalidInput(f"row {number}: it has no vector, and the collection keeps one")
        step("checked", number, reader.rows)
    store.open_collection(fingerprint, chunk_vectors=has_chunk_vectors)
    intake = Intake(store, f"import of {absolute_source(url)}")
    done = 0
    for batch in reader.batches(batch_rows):
        intake.begin(row.facts.document(fingerprint, tenant) for row in batch)
        done += len(batch)
        step("documents", done, reader.rows)
    done = 0
    for batch in reader.batches(batch_rows):
        intake.write([row.row(fingerprint, tenant) for row in batch])
        done += len(batch)
        step("rows", done, reader.rows)
    intake.finish()
    return intake.counts
