"""Multi-vectors as they are stored."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.errors import InvalidInput
from cluster.pages.vectors import Storage, Tile, from_bytes, pack_vectors, to_bytes
from tests.support.late import unit


@pytest.mark.parametrize(("storage", "error"), [("fp16", 1e-3), ("int8", 4e-3), ("binary", None)])
def test_what_is_stored_comes_back(storage: Storage, error: float | None) -> None:
    vectors, tiles = unit(30), (Tile(5, 6),)
    packed = pack_vectors(vectors, tiles, storage=storage)
    back = from_bytes(to_bytes(packed))
    assert (back.storage, back.tiles, back.dimension) == (storage, tiles, 128)
    decoded = back.decode()
    if error is None:
        np.testing.assert_array_equal(np.sign(decoded), np.where(vectors > 0, 1, -1))
        np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-5)
    else:
        np.testing.assert_allclose(decoded, vectors, atol=error)


def test_bytes_of_a_page() -> None:
    vectors, tiles = unit(1030), (Tile(1, 1030),)
    sizes = {
        storage: pack_vectors(vectors, tiles, storage=storage).stored_bytes / 1024
        for storage in ("fp16", "int8", "binary")
    }
    assert sizes == {"fp16": 257.5, "int8": pytest.approx(130.8, abs=0.1), "binary": 16.09375}


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"{}", b"\x93NUMPY"])
def test_what_is_no_file_of_multi_vectors_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="ingest again"):
        from_bytes(data)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return Path.touch, (tmp_path / "run",)

    whole = to_bytes(pack_vectors(unit(4), (Tile(2, 2),), storage="fp16"))
    with np.load(io.BytesIO(whole)) as good:
        header = good["header"]
    file = tmp_path / "evil.npz"
    np.savez(file, header=header, codes=np.array([Evil()], dtype=object))
    with pytest.raises(InvalidInput):
        from_bytes(file.read_bytes())
    assert not (tmp_path / "run").exists()
