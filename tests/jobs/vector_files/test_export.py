"""`quire export`: vectors and rows in files that others read without Quire."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cluster.core import Filter, Fingerprint
from cluster.errors import InvalidInput, NotFound
from cluster.settings import Settings
from cluster.store.milvus import MilvusStore, open_store
from jobs.vector_files.export import export_rows
from quire import app
from tests.support.collections import fill, settings_of
from tests.support.store import FINGERPRINT, a_document, a_row, add

pytestmark = pytest.mark.services
ROWS = {"pages": 6, "chunks": 6, "all": 12}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, MilvusStore]]:
    """Three documents of two pages, each with a chunk; two are of tenant acme."""
    settings = settings_of(tmp_path_factory.mktemp("export") / "store")
    with open_store(settings) as store:
        fill(store, settings)
        yield settings, store


@pytest.mark.parametrize("kind", list(ROWS))
def test_parquet_has_every_row_and_the_fingerprint(
    kind: str, filled: tuple[Settings, MilvusStore], tmp_path: Path
) -> None:
    out = str(tmp_path / "vectors.parquet")
    assert export_rows(filled[0], out, kind=kind, batch_rows=4).rows == ROWS[kind]  # type: ignore[arg-type]
    table = pq.read_table(out)
    fingerprint = Fingerprint.from_json(table.schema.metadata[b"quire.fingerprint"].decode())
    assert fingerprint == FINGERPRINT
    rows = {row["id"]: row for row in table.to_pylist()}
    assert len(rows) == ROWS[kind]
    for row in rows.values():
        assert row["id"] == f"{row['doc_id']}:{row['page']}" + (
            f":{row['chunk']}" * bool(row["chunk"])
        )
        degrees = np.degrees(np.arctan2(row["vector"][1], row["vector"][0]))
        document = json.loads(row["metadata"])["n"]
        assert degrees == pytest.approx(10 * document + row["page"], abs=1e-3)
        assert f"page{row['page']}" in row["text"] and row["tags"] == ["t"]


def test_npz_is_read_by_numpy_alone(filled: tuple[Settings, MilvusStore], tmp_path: Path) -> None:
    export_rows(filled[0], str(tmp_path / "vectors.npz"), kind="all", batch_rows=4)
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.npz"]
    with np.load(tmp_path / "vectors.npz", allow_pickle=False) as arrays:
        ids, vectors, meta = arrays["ids"], arrays["vectors"], arrays["meta"]
        fingerprint = Fingerprint.from_json(str(arrays["fingerprint"]))
    assert vectors.shape == (12, 4) and vectors.dtype == np.float32 and len(set(ids)) == 12
    assert fingerprint == FINGERPRINT
    for row_id, vector, text in zip(ids, vectors, meta, strict=True):
        facts = json.loads(text)
        assert row_id.startswith(f"{facts['doc_id']}:{facts['page']}")
        degrees = np.degrees(np.arctan2(vector[1], vector[0]))
        assert degrees == pytest.approx(10 * facts["metadata"]["n"] + facts["page"], abs=1e-3)
        assert "ü" in facts["metadata"]


def test_filters_choose_what_is_written(
    filled: tuple[Settings, MilvusStore], tmp_path: Path
) -> None:
    out = tmp_path / "acme.parquet"
    flags = ("--store", filled[0].store, "--tenant", "acme", "--filter", '{"n": 1}', "--json")
    done = CliRunner().invoke(app, ["export", str(out), *flags])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"] == 2
    assert set(pq.read_table(out)["tenant"].to_pylist()) == {"acme"}


def test_what_cannot_be_exported_is_said_and_leaves_nothing(
    filled: tuple[Settings, MilvusStore], tmp_path: Path
) -> None:
    settings, store = filled
    taken = tmp_path / "taken.npz"
    taken.write_bytes(b"mine")
    for out, wanted, match in (
        (tmp_path / "vectors.csv", Filter(), r"\.npz or \.parquet"),
        (taken, Filter(), "is there already"),
        (tmp_path / "none.npz", Filter(tenant="nobody"), "there is no vector"),
    ):
        with pytest.raises(InvalidInput, match=match):
            export_rows(settings, str(out), wanted=wanted)
    assert taken.read_bytes() == b"mine"
    with pytest.raises(NotFound, match="no collection 'nowhere'"):
        export_rows(settings.model_copy(update={"collection": "nowhere"}), str(tmp_path / "a.npz"))
    words = store.collection("words")
    words.open_collection(FINGERPRINT, chunk_vectors=False)
    add(words, a_row(a_document()))
    with pytest.raises(InvalidInput, match="--rows pages"):
        export_rows(
            settings.model_copy(update={"collection": "words"}), str(tmp_path / "a.npz"), kind="all"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["taken.npz"]


def test_rows_that_come_meanwhile_are_noticed(
    filled: tuple[Settings, MilvusStore], tmp_path: Path
) -> None:
    settings, store = filled
    late = store.collection("late")
    late.open_collection(FINGERPRINT)
    add(late, *(a_row(a_document(), page) for page in range(1, 7)))

    def write_more(*_: object) -> None:
        add(late, *(a_row(a_document(1), page) for page in range(1, 4)))

    own = settings.model_copy(update={"collection": "late"})
    with pytest.raises(InvalidInput, match="counted"):
        export_rows(own, str(tmp_path / "late.parquet"), batch_rows=4, step=write_more)
    assert not list(tmp_path.iterdir())
