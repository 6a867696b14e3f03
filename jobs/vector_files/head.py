"""What a file of vectors says of all its rows, and what writes and reads them in either format."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np

from cluster.core import Fingerprint
from cluster.errors import InvalidInput
from jobs.vector_files.row import VectorRow, finite_vectors, unit_vectors
from models.options import Pooling

BATCH_ROWS = 1024  # at a time: a row of the 8B has 20 KB
MAX_FINGERPRINT_CHARS = 65_536


@dataclass(frozen=True)
class FileHead:
    """What all rows share. Without `chunk_vectors`, rows of chunks have none."""

    fingerprint: Fingerprint
    chunk_vectors: bool = True

    @property
    def is_embedders(self) -> bool:
        """True where the vectors are an embedder's, of unit length; not pooled multi-vectors."""
        return self.fingerprint.pooling in get_args(Pooling)

    def checked(self, vectors: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        """Return vectors [n, d] of rows with these numbers as float32, if they are as they must be.

        Raises InvalidInput that names the row.
        """
        check = unit_vectors if self.is_embedders else finite_vectors
        return check(vectors, numbers)


class VectorWriter(Protocol):
    """Takes rows in batches; what it writes is whole once it is closed."""

    def write(self, rows: Sequence[VectorRow]) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None:
        """Let go of what is open after an error, of a file that nobody wants."""
        ...


class VectorReader(Protocol):
    """A file of vectors of Quire's own."""

    @property
    def head(self) -> FileHead: ...

    @property
    def rows(self) -> int: ...

    def batches(self, batch_rows: int = BATCH_ROWS) -> Iterator[list[VectorRow]]:
        """Yield the rows in order, checked. Raises InvalidInput that names the row."""
        ...


def not_ours(name: str) -> InvalidInput:
    """Return the error about a file without a fingerprint."""
    return InvalidInput(
        f"{name} carries no fingerprint, so it is not Quire's: "
        "`quire import --foreign` takes it, with the model that made it"
    )


def parse_fingerprint(text: str | bytes, where: str) -> Fingerprint:
    """Read the fingerprint that a file carries. Raises InvalidInput."""
    try:
        if len(text) > MAX_FINGERPRINT_CHARS:
            raise ValueError(f"it has {len(text)} characters")
        fingerprint = Fingerprint.from_json(text if isinstance(text, str) else text.decode())
        if not isinstance(fingerprint.dimension, int) or fingerprint.dimension < 1:
            raise ValueError(f"{fingerprint.dimension!r} dimensions")
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"the fingerprint in {where} cannot be used: {error}") from error
    return fingerprint
