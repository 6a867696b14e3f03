"""Late interaction, evidence and vectors on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from quire import app
from tests.support.serving import quire


def test_search_by_late_interaction_with_evidence(
    indexed: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    _, store = indexed
    out = tmp_path / "evidence"
    found = quire(
        "search", "cracked seat tube", "--store", str(store), "--rerank", "late-interaction",
        "--evidence", str(out), "-k", "4", "--sort", "easy-first", "--max-cer", "0.9", "--json",
    )  # fmt: skip
    hits = json.loads(found)
    assert len(hits) == 4
    assert all(hit["maxsim"] is not None and 0 <= hit["expected_cer"] <= 0.9 for hit in hits)
    assert [hit["expected_cer"] for hit in hits] == sorted(hit["expected_cer"] for hit in hits)
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == 4
    assert [file.name[:3] for file in pictures] == ["01-", "02-", "03-", "04-"]
    assert any("-words.png" in file.name for file in pictures)
    with Image.open(pictures[0]) as image:
        assert image.format == "PNG" and image.width > 500


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
