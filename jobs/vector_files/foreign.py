"""Vectors that another program wrote, with a model that is declared: checked, then brought in.

Each row becomes a document of one page, whose id comes from the file's name and the row's own id.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol, cast

import numpy as np

from cluster.capacity.shapes import Precision
from cluster.core import Fingerprint
from cluster.errors import InvalidInput
from cluster.hardware import detect_gpus
from cluster.settings import Settings
from cluster.sources import absolute_source, source_name
from cluster.store.intake import IntakeCounts
from cluster.store.milvus import MilvusStore, open_store
from jobs.progress import Step
from jobs.vector_files.foreign_files import ForeignColumns, ForeignFile, ForeignRow, open_foreign
from jobs.vector_files.head import BATCH_ROWS, FileHead
from jobs.vector_files.items import item_facts
from jobs.vector_files.load import bring_in
from jobs.vector_files.place import shape_of
from jobs.vector_files.row import VectorRow, unit_vectors
from models.images import decode_image
from models.inputs import MultimodalInput
from models.options import EmbedderOptions

MIN_COSINE = 0.99
MAX_IMAGE_BYTES = 64 * 2**20


class Embeds(Protocol):
    """What embeds the samples again."""

    @property
    def fingerprint(self) -> Fingerprint: ...

    def embed(self, items: Sequence[MultimodalInput]) -> np.ndarray: ...


@dataclass(frozen=True)
class ForeignImport:
    """What came in, and the worst cosine among the samples (1 where none was asked for)."""

    counts: IntakeCounts
    checked: int
    worst_cosine: float


def import_foreign(
    settings: Settings,
    url: str,
    columns: ForeignColumns,
    *,
    tenant: str = "",
    check_samples: int = 8,
    embedder: Embeds | None = None,
    batch_rows: int = BATCH_ROWS,
    step: Step = lambda *_: None,
) -> ForeignImport:
    """Import NPZ or Parquet whose vectors the settings' model made, as `check_samples` rows show.

    `embedder`: one that is loaded already.
    Raises NotFound, InvalidInput that names the row or the worst cosine, FingerprintMismatch or
    ModelUnavailable.
    """
    if shape_of(url) == "folder":
        raise InvalidInput(f"{url}: a foreign file ends in .npz or .parquet")
    with open_store(settings) as store, open_foreign(url, columns) as file:
        options = _options(settings, store)
        fingerprint = options.fingerprint(options.resolved_precision)
        store.check_fingerprint(fingerprint)
        reader = ForeignReader(file, fingerprint, url)
        checked, worst = 0, 1.0
        if check_samples:
            checked, worst = check_rows(file, embedder or _load(options), url, check_samples)
        counts = bring_in(store, reader, url, tenant, batch_rows=batch_rows, step=step)
    return ForeignImport(counts, checked, worst)


def _load(options: EmbedderOptions) -> Embeds:
    from models.qwen3_vl.embedder import Qwen3VLEmbedder

    return Qwen3VLEmbedder(options)


def _options(settings: Settings, store: MilvusStore) -> EmbedderOptions:
    """Return the declared model, in the collection's precision where none is named."""
    options = EmbedderOptions.from_settings(settings, has_gpu=bool(detect_gpus()))
    held = store.fingerprint()
    if held is None or settings.precision != "auto":
        return options
    return replace(options, precision=cast(Precision, held.precision.removesuffix("+vision")))


class ForeignReader:
    """A foreign file as one of Quire's own."""

    def __init__(self, file: ForeignFile, fingerprint: Fingerprint, url: str) -> None:
        """Raise InvalidInput where its vectors have other dimensions."""
        self.head = FileHead(fingerprint)
        self.rows = file.rows
        self._file = file
        self._source = absolute_source(url)
        file.check_dimension(fingerprint.dimension)

    def batches(self, batch_rows: int = BATCH_ROWS) -> Iterator[list[VectorRow]]:
        """Yield the rows in order, checked. Raises InvalidInput that names the row."""
        name = source_name(self._source)
        for rows in self._file.batches(batch_rows):
            numbers = [row.number for row in rows]
            vectors = unit_vectors(np.stack([row.vector for row in rows]), numbers)
            yield [
                VectorRow(item_facts(name, self._source, row.id, row.text, row.number), vector)
                for row, vector in zip(rows, vectors, strict=True)
            ]


def check_rows(
    file: ForeignFile, embedder: Embeds, url: str, check_samples: int
) -> tuple[int, float]:
    """Embed some rows again and compare; returns how many, and the worst cosine.

    Raises InvalidInput below MIN_COSINE, or where a row has nothing to embed.
    """
    count = min(check_samples, file.rows)
    if not count:
        return 0, 1.0
    places = {round(place) for place in np.linspace(0, file.rows - 1, count)}
    rows = [row for batch in file.batches(BATCH_ROWS) for row in batch if row.number - 1 in places]
    theirs = unit_vectors(np.stack([row.vector for row in rows]), [row.number for row in rows])
    ours = embedder.embed([_input_of(row, url) for row in rows])
    cosines = (theirs * ours).sum(axis=1)
    worst = int(np.argmin(cosines))
    if not cosines[worst] >= MIN_COSINE:
        raise InvalidInput(
            f"the vectors are not of {embedder.fingerprint} with the instruction "
            f"{embedder.fingerprint.instruction!r}: of {len(rows)} rows that were embedded again "
            f"row {rows[worst].number} has the worst cosine, {cosines[worst]:.4f} (at least "
            f"{MIN_COSINE} is asked for): declare the model, pooling, instruction and dimensions "
            "that made them, and the column of the very text"
        )
    return len(rows), float(cosines[worst])


def _input_of(row: ForeignRow, url: str) -> MultimodalInput:
    """Return what a row's vector was made of. Raises InvalidInput that names the row."""
    if not row.text and not row.image:
        raise InvalidInput(
            f"row {row.number} has no text or image to embed again: name --text-column or "
            "--image-column, or believe the file with --check-samples 0"
        )
    images = (_read_image(row, url),) if row.image else ()
    return MultimodalInput(text=row.text, images=images)


def _read_image(row: ForeignRow, url: str) -> bytes:
    """Return the bytes of a picture that lies beside the file, or below it, and nowhere else."""
    if "://" in url:
        raise InvalidInput("pictures are read beside a file on disk: copy the file here first")
    folder = Path(url).absolute().parent.resolve()
    path = (folder / PurePosixPath(row.image)).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise InvalidInput(f"row {row.number}: there is no picture {row.image!r} beside the file")
    if path.stat().st_size > MAX_IMAGE_BYTES:
        raise InvalidInput(f"row {row.number}: {row.image!r} is over {MAX_IMAGE_BYTES:,} bytes")
    data = path.read_bytes()
    try:
        decode_image(data, max_pixels=100_000_000)
    except InvalidInput as error:
        raise InvalidInput(f"row {row.number}: {row.image!r}: {error}") from error
    return data
