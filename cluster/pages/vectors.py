"""Multi-vectors of a page: where each one lies, how they are packed, and the file that holds them.

A page of 1,030 vectors of 128 dimensions takes 257 KiB as fp16, 131 KiB as int8 (a scale for each
vector is part of that) and 16 KiB as binary, before compression.
"""

import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from cluster.errors import InvalidInput

Storage = Literal["fp16", "int8", "binary"]
Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the page's sides
WHOLE_PAGE: Box = (0.0, 0.0, 1.0, 1.0)
FORMAT = 1
MAX_BYTES = 256 * 2**20  # of a file, unpacked
DTYPES: dict[str, Any] = {"fp16": np.float16, "int8": np.int8, "binary": np.uint8}
# What damaged bytes may raise on their way through zip, npy and JSON.
DAMAGE = (
    ValueError,
    KeyError,
    OSError,
    TypeError,
    EOFError,
    NotImplementedError,
    RecursionError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Tile:
    """One picture of a page, or of a part of it: rows × columns of vectors over a box."""

    rows: int
    columns: int
    box: Box = WHOLE_PAGE

    @property
    def cells(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True)
class PageVectors:
    """The multi-vectors of one page as a model gives them.

    vectors float32[N, d], unit length; N is the sum of the tiles' cells, the tiles one after the
    other, each row by row. hidden float32[N, h] are the states before the projection, if asked for.
    """

    vectors: np.ndarray
    tiles: tuple[Tile, ...]
    hidden: np.ndarray | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the first tile, which is the whole page."""
        return self.tiles[0].rows, self.tiles[0].columns


@dataclass(frozen=True)
class PackedVectors:
    """The multi-vectors of one page as they are stored.

    codes: fp16[M, d]; or int8[M, d] with `scales` fp16[M]; or the signs, uint8[M, ⌈d/8⌉].
    `members` uint16[N] says which of the M vectors stands for each cell, where cells were pooled.
    """

    storage: Storage
    dimension: int
    tiles: tuple[Tile, ...]
    codes: np.ndarray
    scales: np.ndarray | None = None
    members: np.ndarray | None = None

    @property
    def stored_bytes(self) -> int:
        """Bytes of the vectors themselves, before compression."""
        return self.codes.nbytes + (0 if self.scales is None else self.scales.nbytes)

    @property
    def recipe(self) -> tuple[Storage, int, bool]:
        """Return what makes scores comparable: precision, number of tiles, pooled cells or not."""
        return self.storage, len(self.tiles), self.members is not None

    @cached_property
    def cell_vectors(self) -> np.ndarray:
        """Return the vector of every cell, float32[N, d]."""
        vectors = self.decode()
        return vectors if self.members is None else vectors[self.members]

    def decode(self) -> np.ndarray:
        """float32[M, d]; of binary vectors the signs, ±1/√d, so that they too have unit length."""
        if self.storage == "fp16":
            return self.codes.astype(np.float32)
        if self.storage == "int8":
            assert self.scales is not None  # noqa: S101 — an invariant of `pack` and `load`
            return self.codes.astype(np.float32) * self.scales.astype(np.float32)[:, None]
        bits = np.unpackbits(self.codes, axis=1, count=self.dimension)
        return (bits.astype(np.float32) * 2 - 1) / np.float32(np.sqrt(self.dimension))


def pack_vectors(
    vectors: np.ndarray,
    tiles: tuple[Tile, ...],
    *,
    storage: Storage,
    members: np.ndarray | None = None,
) -> PackedVectors:
    """float32[M, d] → what is stored; int8 has one scale a vector, binary keeps the signs."""
    codes: np.ndarray = vectors.astype(np.float16)
    scales = None
    if storage == "int8":
        scales = (np.abs(vectors).max(axis=1) / 127).astype(np.float16)
        safe = np.maximum(scales.astype(np.float32), np.finfo(np.float16).tiny)
        codes = np.clip(np.rint(vectors / safe[:, None]), -127, 127).astype(np.int8)
    elif storage == "binary":
        codes = np.packbits(vectors > 0, axis=1)
    return PackedVectors(storage, vectors.shape[1], tiles, codes, scales, members)


def to_bytes(packed: PackedVectors) -> bytes:
    """Return a compressed npz without pickles."""
    header = {
        "format": FORMAT,
        "storage": packed.storage,
        "dimension": packed.dimension,
        "tiles": [[tile.rows, tile.columns, *tile.box] for tile in packed.tiles],
    }
    arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), "codes": packed.codes}
    if packed.scales is not None:
        arrays["scales"] = packed.scales
    if packed.members is not None:
        arrays["members"] = packed.members
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def from_bytes(data: bytes) -> PackedVectors:
    """Read what `to_bytes` wrote. Raises InvalidInput where it is anything else."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            if sum(member.file_size for member in file.infolist()) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES:,} bytes")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            header: dict[str, Any] = json.loads(arrays["header"].tobytes())
            if header["format"] != FORMAT:
                raise InvalidInput(f"multi-vectors of format {header['format']}: ingest again")
            packed = PackedVectors(
                storage=header["storage"],
                dimension=header["dimension"],
                tiles=tuple(Tile(row, column, tuple(box)) for row, column, *box in header["tiles"]),
                codes=arrays["codes"],
                scales=arrays.get("scales"),
                members=arrays.get("members"),
            )
        _check(packed)
        return packed
    except DAMAGE as error:
        raise InvalidInput(
            f"these are no multi-vectors of Quire's: ingest again ({error})"
        ) from error


def _check(packed: PackedVectors) -> None:
    """Raise ValueError where the parts do not fit each other."""
    codes, cells = packed.codes, sum(tile.cells for tile in packed.tiles)
    width = -(-packed.dimension // 8) if packed.storage == "binary" else packed.dimension
    vectors = len(codes) if codes.ndim == 2 else -1
    if codes.dtype != DTYPES[packed.storage] or codes.shape != (vectors, width):
        raise ValueError(f"codes {codes.dtype}{codes.shape}")
    if (packed.scales is None) == (packed.storage == "int8"):
        raise ValueError("scales are of int8, and only of int8")
    if packed.scales is not None and packed.scales.shape != (vectors,):
        raise ValueError(f"scales {packed.scales.shape}")
    members = packed.members
    if members is None:
        if vectors != cells:
            raise ValueError(f"{vectors} vectors for {cells} cells")
    elif members.shape != (cells,) or members.dtype != np.uint16 or members.max() >= vectors:
        raise ValueError("members")
