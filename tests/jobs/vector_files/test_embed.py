"""Texts and documents become a file of vectors without a store, and it can be gone on with."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cluster.core import Filter
from cluster.errors import FingerprintMismatch, InvalidInput
from cluster.settings import Settings, load_settings
from cluster.store.milvus import MilvusStore
from jobs.vector_files import embed_files as module
from jobs.vector_files.embed import embed_items
from jobs.vector_files.embed_files import embed_files
from jobs.vector_files.load import import_file
from jobs.vector_files.texts import text_items
from jobs.vector_files.vectorizers import EmbedderVectorizer
from quire import app
from tests.support.documents import ENGLISH, JAPANESE, a_document, save

pytestmark = pytest.mark.services
LINES = [f"line {number} about copper pipe" for number in range(10)]


@pytest.fixture(scope="module")
def vectorizer() -> EmbedderVectorizer:
    return EmbedderVectorizer(load_settings(precision="fp32"))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, vectorizer: EmbedderVectorizer) -> Iterator[None]:
    """The embedder that is loaded already."""
    monkeypatch.setattr(module, "EmbedderVectorizer", lambda settings: vectorizer)
    yield


@pytest.fixture
def lines(tmp_path: Path) -> str:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join([*LINES[:5], "", *LINES[5:]]))
    return str(path)


def quire(*arguments: object, expect: int = 0) -> Any:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == expect, done.output
    return done


@pytest.mark.usefixtures("loaded")
def test_lines_of_text(tmp_path: Path, lines: str, vectorizer: EmbedderVectorizer) -> None:
    out = tmp_path / "x.npz"
    (row,) = json.loads(quire("embed", lines, "--out", out, "--json").stdout)
    dimension = vectorizer.fingerprint.dimension
    assert (row["rows"], row["shape"], row["failed"]) == (10, f"10 × {dimension}", 0)
    assert row["tokens"] > 50
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["ids"].tolist() == [*"12345", "7", "8", "9", "10", "11"]
        expected, _ = vectorizer.embed(
            [vectorizer.prepare(item.load().content) for item in text_items(lines)]
        )
        np.testing.assert_allclose(arrays["vectors"], expected, atol=1e-5)
        assert str(arrays["fingerprint"]) == vectorizer.fingerprint.to_json()
    assert not (tmp_path / "x.npz.partial").exists()


@pytest.mark.usefixtures("loaded")
def test_objects_with_ids_can_be_imported(
    second: Settings, milvus: MilvusStore, tmp_path: Path, vectorizer: EmbedderVectorizer
) -> None:
    source, out = tmp_path / "items.jsonl", tmp_path / "x.parquet"
    rows = [{"id": "q-1", "text": "gearbox oil"}, {"id": 7, "text": "harbour crane"}]
    bad = ["{", '{"id": 3}', '"text"', '{"text": "", "id": "e"}']
    source.write_text("\n".join([*map(json.dumps, rows), *bad]))
    done = quire("embed", source, "--out", out, expect=1)
    for line in (3, 4, 5):
        assert f"line {line}:" in done.stderr
    assert import_file(second, str(out)).documents == 3
    query, _ = vectorizer.embed([vectorizer.prepare(next(text_items(str(source))).load().content)])
    store = milvus.collection("second")
    (hit,) = store.search(vector=query[0].tolist(), text="", wanted=Filter(), mode="dense", top_k=1)
    assert (hit.title, hit.text, hit.metadata) == ("q-1", "gearbox oil", {"id": "q-1"})


@pytest.mark.usefixtures("loaded")
def test_documents(second: Settings, milvus: MilvusStore, tmp_path: Path) -> None:
    folder, out = tmp_path / "pdfs", tmp_path / "x.parquet"
    folder.mkdir()
    save(a_document(ENGLISH, JAPANESE), folder / "a.pdf")
    (folder / "b.pdf").write_bytes((folder / "a.pdf").read_bytes())  # the same
    (folder / "c.pdf").write_bytes(b"%PDF-1.7 nothing")
    settings = load_settings(ocr="off", max_pixels=0)
    done = embed_files(settings, [str(folder)], out)
    assert [counts.rows for counts in done.tally.sources.values()] == [2, 0]
    assert [Path(name).name for name in done.tally.failed] == ["c.pdf"]
    table = pq.read_table(out).to_pylist()
    assert [row["id"] for row in table] == [f"{table[0]['doc_id']}:{page}" for page in (1, 2)]
    assert ENGLISH in table[0]["text"] and table[0]["pages"] == 2 and table[0]["width_px"] > 0
    counts = import_file(second, str(out))
    assert (counts.documents, counts.pages) == (1, 2)
    (document,) = milvus.collection("second").documents()
    assert (document.status, document.error, document.pages) == ("indexed", "", 2)


class Counting:
    """A vectorizer that counts, and stops after so many inputs."""

    def __init__(self, vectorizer: EmbedderVectorizer, limit: int = 1000) -> None:
        self._vectorizer, self._left = vectorizer, limit
        self.fingerprint, self.spec = vectorizer.fingerprint, vectorizer.spec
        self.embedded = 0

    def prepare(self, content: Any) -> Any:
        return self._vectorizer.prepare(content)

    def embed(self, prepared: Any) -> tuple[np.ndarray, list[int]]:
        if self.embedded >= self._left:
            raise KeyboardInterrupt
        self.embedded += len(prepared)
        return self._vectorizer.embed(prepared)


def interrupted(lines: str, vectorizer: EmbedderVectorizer, out: Path) -> None:
    """Embed four of ten lines, in two parts."""
    counting = Counting(vectorizer, 4)
    with pytest.raises(KeyboardInterrupt):
        embed_items(text_items(lines), counting, out, batch_items=2, part_rows=2)
    assert not out.exists()


def test_what_is_done_is_not_done_again(
    tmp_path: Path, lines: str, vectorizer: EmbedderVectorizer
) -> None:
    whole, out = tmp_path / "whole.parquet", tmp_path / "x.parquet"
    embed_items(text_items(lines), vectorizer, whole)
    interrupted(lines, vectorizer, out)
    parts = sorted(path.name for path in (tmp_path / "x.parquet.partial").glob("*.parquet"))
    assert parts == ["part-00001.parquet", "part-00002.parquet"]
    counting = Counting(vectorizer)
    tally = embed_items(text_items(lines), counting, out, batch_items=2, part_rows=2)
    assert counting.embedded == 6
    assert tally.sources[lines].rows == 10
    again, once = pq.read_table(out), pq.read_table(whole)
    assert again.column("id").to_pylist() == once.column("id").to_pylist()
    after, before = (np.array(table.column("vector").to_pylist()) for table in (again, once))
    np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.parametrize("change", ["first", "missing"])
def test_an_input_that_changed_is_not_gone_on_with(
    tmp_path: Path, lines: str, vectorizer: EmbedderVectorizer, change: str
) -> None:
    out = tmp_path / "x.npz"
    interrupted(lines, vectorizer, out)
    Path(lines).write_text("another" if change == "first" else LINES[0])
    with pytest.raises(InvalidInput, match="has changed at"):
        embed_items(text_items(lines), vectorizer, out)


def test_another_model_does_not_go_on(
    tmp_path: Path, lines: str, vectorizer: EmbedderVectorizer
) -> None:
    out = tmp_path / "x.npz"
    interrupted(lines, vectorizer, out)
    other = EmbedderVectorizer(load_settings(precision="fp32", pooling="mean"))
    with pytest.raises(FingerprintMismatch, match="partial"):
        embed_items(text_items(lines), other, out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.txt", "--out", "x"), "ends in .npz or .parquet"),
        (("a.txt", "--out", "x.npz", "--kind", "multi"), "name documents"),
        (("a.pdf", "--out", "x.npz", "--kind", "multi", "--pooling", "last"), "--kind vector"),
        (("a.pdf", "--out", "x.parquet", "--kind", "hidden"), "many vectors each"),
        (("a.pdf", "--out", "x.npz", "--pooling", "max"), "pooling"),
    ],
)
def test_what_cannot_be_is_said_at_once(arguments: tuple[str, ...], message: str) -> None:
    assert message in quire("embed", *arguments, expect=2).stderr
