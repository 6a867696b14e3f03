"""Vectors as NPZ: `ids`, `vectors` float32[n, d], `meta` and `fingerprint`, all without pickle.

`np.load` wants to know the size of each array, and the width of its longest text, before the first
row. Vectors go to a file beside as they come, texts to others, and the archive is packed from them.
"""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from cluster.core import Fingerprint
from cluster.store.vector_rows import VectorRow

TEXTS_TOGETHER = 4096
META = ("doc_id", "page", "chunk", "title", "source", "tenant", "tags", "metadata")


class NpzVectors:
    """Writes `rows` rows into an NPZ; memory holds a batch at a time."""

    def __init__(self, path: Path, fingerprint: Fingerprint, rows: int) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._rows = rows
        self._vectors_path = path.with_name(f"{path.name}.vectors")
        self._vectors = self._vectors_path.open("wb")
        _write_header(self._vectors, np.dtype(np.float32), (rows, fingerprint.dimension))
        self._ids = _Texts(path.with_name(f"{path.name}.ids"))
        self._meta = _Texts(path.with_name(f"{path.name}.meta"))

    def write(self, rows: Sequence[VectorRow]) -> None:
        self._vectors.write(np.stack([row.vector for row in rows]).tobytes())
        for row in rows:
            self._ids.add(row.id)
            facts = {name: getattr(row, name) for name in META}
            self._meta.add(json.dumps(facts, ensure_ascii=False))

    def close(self) -> None:
        """Pack the archive, and remove what it was packed from."""
        self._vectors.close()
        try:
            with zipfile.ZipFile(self._path, "w", allowZip64=True) as archive:
                archive.write(self._vectors_path, "vectors.npy")  # stored: vectors do not shrink
                self._ids.pack(archive, "ids.npy", self._rows)
                self._meta.pack(archive, "meta.npy", self._rows)
                text = np.array(self._fingerprint.to_json())
                with archive.open("fingerprint.npy", "w") as file:
                    npy.write_array(file, text, allow_pickle=False)
        finally:
            self._vectors_path.unlink()
            self._ids.remove()
            self._meta.remove()


class _Texts:
    """Texts in a file, a line of JSON each, that become an array of the width of the longest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w", encoding="utf-8")
        self._width = 1

    def add(self, text: str) -> None:
        self._width = max(self._width, len(text))
        self._file.write(json.dumps(text) + "\n")

    def pack(self, archive: zipfile.ZipFile, name: str, rows: int) -> None:
        self._file.close()
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED  # mostly the blanks behind shorter texts
        kind = np.dtype(f"<U{self._width}")
        with self._path.open(encoding="utf-8") as lines, archive.open(info, "w") as file:
            _write_header(file, kind, (rows,))
            texts: list[str] = []
            for line in lines:
                texts.append(json.loads(line))
                if len(texts) == TEXTS_TOGETHER:
                    file.write(np.array(texts, kind).tobytes())
                    texts = []
            file.write(np.array(texts, kind).tobytes())

    def remove(self) -> None:
        self._file.close()
        self._path.unlink()


def _write_header(file: IO[bytes], kind: np.dtype, shape: tuple[int, ...]) -> None:
    header = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    npy.write_array_header_2_0(file, header)
