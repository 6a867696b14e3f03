"""Late interaction over several files: what `quire vectors` gives for each, in one file."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from cluster.errors import InvalidInput
from cluster.settings import load_settings
from jobs.vector_files.load import import_file
from quire import app

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name, place in (("a", 10), ("b", 40)):
        image = Image.new("RGB", (96, 128), "white")
        ImageDraw.Draw(image).rectangle((place, place, place + 30, place + 50), fill="navy")
        image.save(folder / f"{name}.png")
    return folder


def quire(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_tokens_of_many_pages_are_those_of_each(pictures: Path, tmp_path: Path) -> None:
    rows = json.loads(
        quire("embed", pictures, "--kind", "multi", "--out", tmp_path / "x.npz", "--json")
    )
    quire("vectors", pictures / "b.png", "--out", tmp_path / "b.npz")
    with np.load(tmp_path / "x.npz") as many, np.load(tmp_path / "b.npz") as one:
        np.testing.assert_allclose(many["page_0002"], one["page_0001"], atol=1e-5)
        np.testing.assert_array_equal(many["grid_0002"], one["grid_0001"])
        assert len(many["ids"]) == 2
        tokens, dimension = one["page_0001"].shape
    assert rows[1]["tokens"] == tokens and rows[1]["shape"] == f"{tokens} × {dimension}"


def test_pooled_pages_are_rows(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    shown = quire("embed", pictures, "--kind", "hidden", "--pooling", "concat", "--out", out)
    one = tmp_path / "a.npz"
    quire("vectors", pictures / "a.png", "--kind", "hidden", "--pooling", "concat", "--out", one)
    with np.load(out) as many, np.load(one) as arrays:
        np.testing.assert_allclose(many["vectors"][0], arrays["page_0001"], atol=1e-5)
        assert json.loads(str(many["fingerprint"]))["pooling"] == "hidden-concat"
        assert f"1 × {many['vectors'].shape[1]}" in shown
    with pytest.raises(InvalidInput, match="pooled multi-vectors"):
        import_file(load_settings(store=str(tmp_path / "store")), str(out))
