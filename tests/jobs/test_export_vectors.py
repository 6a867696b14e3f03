"""Vectors of a file on the command line."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from quire import app


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ((), None),
        (("--pooling", "concat"), (3 * 320,)),
        (("--kind", "hidden", "--pooling", "attention", "--tiles", "4"), (320,)),
    ],
)
def test_vectors_of_a_file(
    indexed: tuple[Path, Path],
    tmp_path: Path,
    options: tuple[str, ...],
    shape: tuple[int, ...] | None,
) -> None:
    library, _ = indexed
    file, out = min(library.glob("*receipt*en*.pdf")), tmp_path / "x.npz"
    done = CliRunner().invoke(app, ["vectors", str(file), "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    with np.load(out, allow_pickle=False) as arrays:
        page, grid = arrays["page_0001"], arrays["grid_0001"]
    assert page.dtype == np.float32
    assert len(grid) == (5 if "4" in options else 1)
    if shape is None:
        assert page.shape == (grid.prod(axis=1).sum(), 320)
        np.testing.assert_allclose(np.linalg.norm(page, axis=1), 1, atol=1e-4)
    else:
        assert page.shape == shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vectors", "nothing.pdf", "--out", "x.npz"], "no file nothing.pdf"),
        (["search", "x", "--sort", "best"], "sort"),
        (["vectors", "pyproject.toml", "--out", "x.npz", "--tiles", "3"], "tiles"),
    ],
)
def test_errors_say_what_to_do(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
