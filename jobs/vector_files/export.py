"""Export a collection's vectors and rows into a file, a batch at a time."""

from dataclasses import dataclass
from pathlib import Path

from cluster.core import Filter
from cluster.errors import InvalidInput
from cluster.settings import Settings
from cluster.store.milvus import open_existing_store
from cluster.store.vector_rows import RowKind, VectorRows
from jobs.progress import Step
from jobs.vector_files.npz import NpzVectors
from jobs.vector_files.parquet import ParquetVectors

WRITERS: dict[str, type[ParquetVectors] | type[NpzVectors]] = {
    ".parquet": ParquetVectors,
    ".npz": NpzVectors,
}


@dataclass(frozen=True)
class ExportedVectors:
    """What was written: `rows` vectors of `dimension` components."""

    out: str
    rows: int
    dimension: int
    fingerprint: str


def export_rows(
    settings: Settings,
    out: Path,
    *,
    kind: RowKind = "pages",
    wanted: Filter = Filter(),
    step: Step = lambda *_: None,
) -> ExportedVectors:
    """Write rows with their vectors into a file that is whole or not there.

    Raises InvalidInput where the file is there or cannot be written, where nothing passes, or where
    rows come or go meanwhile; NotFound without a collection.
    """
    if out.suffix not in WRITERS:
        raise InvalidInput(f"{out} is to end in {' or '.join(WRITERS)}")
    if out.exists():
        raise InvalidInput(f"{out} is there already: choose another name, or remove it")
    with open_existing_store(settings) as store:
        rows = VectorRows(store, wanted, kind)
        total = rows.count()
        if not total:
            raise InvalidInput(f"nothing of {settings.collection!r} passes: there is no vector")
        part = out.with_name(f"{out.name}.part")
        try:
            done = _write(WRITERS[out.suffix], part, rows, total, step)
            if done != total:
                raise InvalidInput(
                    f"{settings.collection!r} changed meanwhile ({done:,} rows and not {total:,}): "
                    "export it again"
                )
            part.rename(out)
        except OSError as error:
            raise InvalidInput(f"{out} cannot be written: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)
    fingerprint = rows.fingerprint
    return ExportedVectors(str(out), total, fingerprint.dimension, str(fingerprint))


def _write(
    kind: type[ParquetVectors] | type[NpzVectors],
    path: Path,
    rows: VectorRows,
    total: int,
    step: Step,
) -> int:
    done = 0
    file = kind(path, rows.fingerprint, total)
    try:
        for batch in rows:
            file.write(batch)
            done += len(batch)
            step("rows", done, total)
    finally:
        file.close()
    return done
