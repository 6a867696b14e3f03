"""Vectors of another program come in with the model that is declared, or are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from cluster.core import Filter
from cluster.errors import FingerprintMismatch, InvalidInput
from cluster.settings import Settings
from cluster.store.milvus import MilvusStore
from jobs.forget import forget_documents
from jobs.vector_files.foreign import import_foreign
from jobs.vector_files.foreign_files import ForeignColumns
from models.inputs import MultimodalInput
from models.options import EmbedderOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from quire import app
from tests.support.store import FINGERPRINT

pytestmark = pytest.mark.services
TEXTS = ("Replace the gearbox oil.", "Invoice for copper pipe", "請求書の合計金額", "harbour crane")
IDS = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def embedder() -> Qwen3VLEmbedder:
    return Qwen3VLEmbedder(EmbedderOptions(precision="fp32"))


@pytest.fixture(scope="module")
def vectors(embedder: Qwen3VLEmbedder) -> np.ndarray:
    """What quire-tiny makes of TEXTS, in another program."""
    return embedder.embed([MultimodalInput(text=text) for text in TEXTS])


def an_npz(folder: Path, vectors: np.ndarray, **more: Any) -> str:
    arrays = {"ids": np.array(IDS), "texts": np.array(TEXTS), **more}
    np.savez_compressed(folder / "x.npz", vectors=vectors, **arrays)
    return str(folder / "x.npz")


def bring(settings: Settings, file: str, *columns: str, **options: Any) -> Any:
    return import_foreign(settings, file, ForeignColumns(*columns), **options)


def test_an_npz_becomes_items(
    second: Settings, milvus: MilvusStore, vectors: np.ndarray, tmp_path: Path
) -> None:
    file = an_npz(tmp_path, vectors)
    declared = ("--foreign", "--model", "quire-tiny", "--pooling", "last")
    store_options = ("--store", second.store, "--collection", "second")
    done = CliRunner().invoke(app, ["import", file, *declared, *store_options])
    assert done.exit_code == 0, done.output
    assert "4 documents, 4 pages, 4 rows" in done.stdout and "worst cosine 1.0000" in done.stdout
    store = milvus.collection("second")
    found = store.search(
        vector=vectors[2].tolist(), text="", wanted=Filter(), mode="dense", top_k=1
    )
    assert (found[0].title, found[0].text) == ("c", TEXTS[2])
    by_words = store.search(vector=None, text="copper", wanted=Filter(), mode="text", top_k=1)
    assert by_words[0].metadata == {"id": "b"}
    before = {document.doc_id for document in store.documents()}
    assert bring(second, file, check_samples=0).counts.documents == 4  # again
    assert {document.doc_id for document in store.documents()} == before
    assert forget_documents(second, doc_id=min(before))[0].rows == 1


def test_parquet_of_other_names_and_numbered_rows(
    second: Settings,
    milvus: MilvusStore,
    embedder: Qwen3VLEmbedder,
    vectors: np.ndarray,
    tmp_path: Path,
) -> None:
    table = pa.table(
        {"emb": vectors.astype(np.float64).tolist(), "words": list(TEXTS), "junk": [b"x"] * 4}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    file = str(tmp_path / "x.parquet")
    with pytest.raises(InvalidInput, match="--vector-column"):
        bring(second, file)
    done = bring(
        second, file, "emb", "", "words", check_samples=2, embedder=embedder, tenant="acme"
    )
    assert (done.checked, done.counts.rows) == (2, 4)
    titles = {document.title for document in milvus.collection("second").documents()}
    assert titles == {"1", "2", "3", "4"}


def test_pictures_beside_the_file(
    second: Settings, embedder: Qwen3VLEmbedder, tmp_path: Path
) -> None:
    image = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(image).ellipse((10, 10, 60, 80), fill="navy")
    image.save(tmp_path / "p.png")
    vectors = embedder.embed([MultimodalInput(images=(image,))])
    for path, message in {
        "p.png": "",
        "../p.png": "no picture",
        "http://localhost/p.png": "no picture",
        "q.png": "no picture",
    }.items():
        np.savez(tmp_path / "x.npz", vectors=vectors, paths=np.array([path]))
        columns = ("vectors", "", "", "paths")
        if not message:
            assert (
                bring(second, str(tmp_path / "x.npz"), *columns, embedder=embedder).worst_cosine
                > 0.999
            )
            continue
        with pytest.raises(InvalidInput, match=message):
            bring(second, str(tmp_path / "x.npz"), *columns, embedder=embedder)


def test_vectors_of_another_recipe_are_refused(
    second: Settings,
    milvus: MilvusStore,
    embedder: Qwen3VLEmbedder,
    vectors: np.ndarray,
    tmp_path: Path,
) -> None:
    wrong = an_npz(tmp_path, vectors[::-1].copy())
    with pytest.raises(InvalidInput, match=r"row \d has the worst cosine, -?0\.\d{4}"):
        bring(second, wrong, embedder=embedder)
    with pytest.raises(InvalidInput, match="worst cosine"):
        bring(second.model_copy(update={"pooling": "mean"}), an_npz(tmp_path, vectors))
    with pytest.raises(InvalidInput, match="declared gives 64"):
        bring(second.model_copy(update={"dimensions": 64}), an_npz(tmp_path, vectors))
    assert milvus.collection("second").stored() is None  # nothing was made
    milvus.collection("second").open_collection(FINGERPRINT)
    with pytest.raises(FingerprintMismatch, match="model-a"):
        bring(second.model_copy(update={"precision": "fp32"}), an_npz(tmp_path, vectors))


def test_what_cannot_be_checked_is_believed_only_where_that_is_said(
    second: Settings, embedder: Qwen3VLEmbedder, vectors: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", vectors=vectors)
    with pytest.raises(InvalidInput, match="--check-samples 0"):
        bring(second, str(tmp_path / "x.npz"), embedder=embedder)
    assert bring(second, str(tmp_path / "x.npz"), check_samples=0).counts.rows == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": np.array(list("abc"))}, "3 entries for 4"),
        ({"ids": np.array(["a", "b", "c", ""])}, "row 4: id"),
        ({"ids": np.array(["a", "b", "c", {}], object)}, "pickled"),
        ({"texts": np.array(["x" * 300_000] * 4)}, "rows of 1,200,000 bytes"),
        ({"vectors": "nan"}, "row 2: its vector holds"),
        ({"vectors": "long"}, "row 3: its vector has the length 2"),
        ({"vectors": "fortran"}, "Fortran"),
        ({"vectors": "int"}, "not expected"),
        ({"vectors": "flat"}, "not expected"),
        ({"vectors": "object"}, "pickled"),
    ],
    ids=str,
)
def test_bad_files_are_refused(
    second: Settings, vectors: np.ndarray, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    changed = vectors.copy()
    match changes.pop("vectors", ""):
        case "nan":
            changed[1, 3] = np.nan
        case "long":
            changed[2] *= 2
        case "fortran":
            changed = np.asfortranarray(changed)
        case "int":
            changed = changed.astype(np.int64)
        case "flat":
            changed = changed.ravel()
        case "object":
            changed = changed.astype(object)
    with pytest.raises(InvalidInput, match=message):
        bring(second, an_npz(tmp_path, changed, **changes), check_samples=0)


def test_lists_of_other_lengths_name_their_row(second: Settings, tmp_path: Path) -> None:
    for name, lists in {"a": [[0.5] * 496, [1.0]], "b": [[0.5] * 496, None]}.items():
        table = pa.table({"vector": pa.array(lists, pa.list_(pa.float32()))})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        with pytest.raises(InvalidInput, match=r"row 2: it has (1 dim|no vec)"):
            bring(second, str(tmp_path / f"{name}.parquet"), check_samples=0)


def test_a_file_of_ones_own_says_what_it_holds(second: Settings, tmp_path: Path) -> None:
    store = ["--store", second.store, "--collection", "second"]
    done = CliRunner().invoke(app, ["import", "x.npz", "--model", "quire-tiny", *store])
    assert done.exit_code == 2 and "leave out --model" in done.stderr
