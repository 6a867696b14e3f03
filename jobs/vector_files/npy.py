"""One array of an NPZ file as a stream: its header is believed only where it fits its bytes."""

import io
import math
import sys
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from cluster.errors import InvalidInput

MAX_HEADER_BYTES = 10_000
MAX_MEMBERS = 10_000
MAX_ITEM_BYTES = 2**20  # of a row of an array: what one row may ask to hold
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    SyntaxError,
    TypeError,
    RuntimeError,  # encrypted
    NotImplementedError,  # compressed in a way of its own
)
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write_header(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Write what stands before the numbers of an array in C order."""
    described = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, described)


def open_zip(file: IO[bytes], name: str) -> zipfile.ZipFile:
    """Open an NPZ file. Raises InvalidInput."""
    try:
        opened = zipfile.ZipFile(file)
    except UNREADABLE as error:
        raise InvalidInput(f"{name} is no NPZ file: {error}") from error
    if len(opened.namelist()) > MAX_MEMBERS:
        raise InvalidInput(f"{name} has over {MAX_MEMBERS:,} arrays: that is no file of vectors")
    return opened


class Member:
    """An array of an NPZ file that has a kind of these (numpy's letters) and so many axes.

    Nothing is read but its header. Raises InvalidInput.
    """

    def __init__(
        self, opened: zipfile.ZipFile, name: str, file: str, *, kinds: str, axes: int
    ) -> None:
        self.name, self._zip, self._file = name, opened, file
        if f"{name}.npy" not in opened.namelist():
            known = ", ".join(each.removesuffix(".npy") for each in opened.namelist()[:20])
            raise InvalidInput(f"{file} has no array {name!r}: it has {known}")
        try:
            with opened.open(f"{name}.npy") as member:
                begin = io.BytesIO(member.read(MAX_HEADER_BYTES))
            read_header = _READERS[np.lib.format.read_magic(begin)]
            self.shape, is_fortran, self.dtype = read_header(begin, MAX_HEADER_BYTES)
        except UNREADABLE as error:
            raise InvalidInput(f"{file}: {name} is no array of numpy: {error}") from error
        self._offset = begin.tell()
        self._check(kinds, axes, is_fortran)

    def _check(self, kinds: str, axes: int, is_fortran: bool) -> None:
        where = f"{self._file}: {self.name}"
        if self.dtype.hasobject:
            raise InvalidInput(f"{where} holds pickled objects, which are never read: save strings")
        if self.dtype.kind not in kinds or len(self.shape) != axes:
            raise InvalidInput(f"{where} is {self.dtype}{list(self.shape)}, which is not expected")
        if is_fortran and axes > 1:
            raise InvalidInput(f"{where} is in Fortran's order: save np.ascontiguousarray of it")
        held = self._zip.getinfo(f"{self.name}.npy").file_size - self._offset
        if math.prod(self.shape) * self.dtype.itemsize != held:
            raise InvalidInput(f"{where} says {list(self.shape)}, and {held:,} bytes are there")
        if not 0 < self.row_bytes <= MAX_ITEM_BYTES:
            raise InvalidInput(f"{where} has rows of {self.row_bytes:,} bytes, not 1 to 1 MiB")

    @property
    def row_bytes(self) -> int:
        """Return the bytes of one entry along the first axis."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def open(self) -> IO[bytes]:
        """Open what stands behind the header."""
        opened = self._zip.open(f"{self.name}.npy")
        opened.read(self._offset)
        return opened

    def batches(self, batch_rows: int) -> Iterator[np.ndarray]:
        """Yield its entries along the first axis, so many at a time. Raises InvalidInput."""
        left = self.shape[0]
        with self.open() as opened:
            while left:
                rows = min(left, batch_rows)
                yield self._array(self._read(opened, rows * self.row_bytes), rows)
                left -= rows

    def read_scalar(self) -> str:
        """Return the one string of an array without axes."""
        with self.open() as opened:
            array = self._array(self._read(opened, self.row_bytes), 1)
        return self.text_at(array, 0, 1)

    def _array(self, data: bytes, rows: int) -> np.ndarray:
        """Return so many entries. Raises InvalidInput where a text has what is no character."""
        if self.dtype.kind == "U":
            characters = np.frombuffer(data, np.dtype("u4").newbyteorder(self.dtype.byteorder))
            if int(characters.max(initial=0)) > sys.maxunicode:
                raise InvalidInput(f"{self._file}: {self.name} holds what is no character")
        return np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])

    def text_at(self, array: np.ndarray, place: int, number: int) -> str:
        """Return one entry, of row `number`, as a text. Raises InvalidInput that names it."""
        try:
            entry = array[place]
            return entry.decode() if isinstance(entry, bytes) else str(entry)
        except ValueError as error:
            raise InvalidInput(f"row {number}: {self.name} is no text: {error}") from error

    def _read(self, opened: IO[bytes], size: int) -> bytes:
        try:
            data = opened.read(size)
        except UNREADABLE as error:
            raise InvalidInput(f"{self._file}: {self.name} is damaged: {error}") from error
        if len(data) != size:
            raise InvalidInput(f"{self._file}: {self.name} ends too early")
        return data
