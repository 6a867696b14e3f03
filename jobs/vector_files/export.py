"""Write a collection's rows with their vectors to a file, however many there are."""

from dataclasses import dataclass

from cluster.core import Filter
from cluster.errors import InvalidInput, NotFound
from cluster.settings import Settings
from cluster.store.client import COPY_ROWS
from cluster.store.copying import check_quiet
from cluster.store.milvus import open_existing_store
from cluster.store.row_stream import RowKind, count_stream, stream_rows
from jobs.progress import Step
from jobs.vector_files.head import FileHead
from jobs.vector_files.open import open_writer
from jobs.vector_files.parts import PART_ROWS
from jobs.vector_files.place import check_is_free, shape_of
from jobs.vector_files.row import VectorRow

GROUP_ROWS = 4096  # in a row group of Parquet


@dataclass(frozen=True)
class Export:
    """What was written, and where."""

    collection: str
    rows: int
    out: str


def export_rows(
    settings: Settings,
    out: str,
    *,
    kind: RowKind = "pages",
    wanted: Filter = Filter(),
    batch_rows: int = GROUP_ROWS,
    part_rows: int = PART_ROWS,
    step: Step = lambda *_: None,
) -> Export:
    """Write the rows that pass; `batch_rows` are held at once, `part_rows` in a file of a folder.

    Raises NotFound; InvalidInput, also where documents are being indexed or deleted, or rows come
    or go meanwhile; FilesUnavailable.
    """
    check_is_free(out)
    with open_existing_store(settings) as store:
        stored = store.stored()
        if stored is None:
            raise NotFound(f"there is no collection {settings.collection!r}: quire ingest DIR")
        if shape_of(out) == "npz" and kind != "pages" and not stored.chunk_vectors:
            raise InvalidInput(
                f"{stored.name!r} keeps no vectors of chunks: export --rows pages, or to Parquet"
            )
        check_quiet(store.client, stored)
        rows = count_stream(store, wanted, kind)
        if not rows:
            raise InvalidInput(f"nothing of {stored.name!r} passes: there is no vector")
        head = FileHead(stored.fingerprint, stored.chunk_vectors)
        done = 0
        with open_writer(out, head, rows, batch_rows=batch_rows, part_rows=part_rows) as writer:
            for batch in stream_rows(store, wanted, kind, min(COPY_ROWS, batch_rows)):
                writer.write([VectorRow.of(row) for row in batch])
                done += len(batch)
                step(f"rows of {stored.name}", done, rows)
            if done != rows:
                raise InvalidInput(
                    f"{rows:,} rows of {stored.name!r} were counted and {done:,} read: stop what "
                    "writes to it and run this again"
                )
    return Export(stored.name, rows, out)
