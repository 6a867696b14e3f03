"""Search over kept multi-vectors: pages that are damaged or have none."""

import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cluster.core import Document
from cluster.errors import InvalidInput, NotFound
from cluster.pages.files import PageFiles, PageKey, vectors_kind
from cluster.pages.vectors import PackedVectors, Tile, from_bytes, pack_vectors, to_bytes
from models.inputs import MultimodalInput
from models.late_interaction.model import ColPaliModel
from models.late_interaction.search import LateSearch, pack_page
from models.registry import ModelSpec, registry
from tests.support.checkpoints import picture
from tests.support.late import unit

DOC_ID = "0" * 32


def test_damage_is_named_and_no_page_of_it_is_scored(model: ColPaliModel, tmp_path: Path) -> None:
    whole = to_bytes(pack_vectors(unit(6), (Tile(2, 3),), storage="int8"))
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        with suppress(InvalidInput):  # and nothing else
            from_bytes(bytes(damaged))
    wrong = [
        pack_vectors(unit(6), (Tile(2, 4),), storage="fp16"),
        replace(pack_vectors(unit(6), (Tile(2, 3),), storage="int8"), scales=None),
        replace(pack_vectors(unit(6), (Tile(2, 3),), storage="fp16"), storage="binary"),
        pack_vectors(unit(2), (Tile(2, 3),), storage="fp16", members=np.full(6, 2, np.uint16)),
    ]
    for packed in wrong:
        with pytest.raises(InvalidInput):
            from_bytes(to_bytes(packed))
    files = PageFiles(str(tmp_path), "quire")
    kind = vectors_kind(model.spec.name, model.spec.revision)
    (page,) = model.embed_images([picture(1, 64, 64)])
    kept = pack_page(page, storage="int8", token_pooling=1)
    for number, data in enumerate((to_bytes(kept), whole[:50]), start=1):
        files.put("t", DOC_ID, number, data, kind)
    pages = [PageKey("t", DOC_ID, 1), PageKey("t", DOC_ID, 2)]
    scores = LateSearch(model, files).score(MultimodalInput(text="a"), pages)
    assert np.isfinite(scores[0]) and np.isnan(scores[1])
    mixed = to_bytes(pack_page(page, storage="binary", token_pooling=1))
    files.put("t", DOC_ID, 2, mixed, kind)
    with pytest.raises(InvalidInput, match="do not compare"):
        LateSearch(model, files).score(MultimodalInput(text="a"), pages)


def test_pages_without_multi_vectors_of_the_model_score_nothing(
    model: ColPaliModel, tmp_path: Path
) -> None:
    files = PageFiles(str(tmp_path), "quire")
    kind = vectors_kind(model.spec.name, model.spec.revision)
    assert kind != vectors_kind(model.spec.name, "another")
    search = LateSearch(model, files)
    pages = [PageKey("t", DOC_ID, number) for number in (1, 2, 3)]
    question = MultimodalInput(text="a b c")
    with pytest.raises(InvalidInput, match="--multi-vectors"):
        search.score(question, pages)
    found = model.embed_images([picture(seed, 120, 90) for seed in (1, 2)])
    expected: dict[int, float] = {}
    for number, page in zip((1, 3), found, strict=True):
        packed: PackedVectors = pack_page(page, storage="fp16", token_pooling=1)
        files.put("t", DOC_ID, number, to_bytes(packed), kind)
        products = model.embed_query("a b c") @ packed.decode().T
        expected[number] = float(products.max(axis=1).sum())
    scores = search.score(question, pages)
    np.testing.assert_allclose(scores[[0, 2]], [expected[1], expected[3]], atol=1e-3)
    assert np.isnan(scores[1])
    assert search.evidence("a b", pages[0]).heat is not None
    with pytest.raises(NotFound):
        search.evidence("a b", pages[1])
    document = Document(doc_id=DOC_ID, sha256="", source="", tenant="t")
    assert files.pages(document, kind) == {1, 3}
    files.forget(document)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class SlowFiles(MemoryFileSystem):  # type: ignore[misc]
    """Files in memory, each read of which waits until several run, as far as they ever do."""

    protocol = "slow"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    together = threading.Barrier(4)

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        with suppress(threading.BrokenBarrierError):
            self.together.wait(timeout=10)
        return bytes(super().cat_file(path, start, end, **options))


@dataclass(frozen=True)
class OneWord:
    """A model whose every question is one vector."""

    spec: ModelSpec

    def embed_query(self, text: str = "", image: Any = None) -> np.ndarray:
        return unit(1)


def test_candidates_are_read_side_by_side_and_scored_in_their_order() -> None:
    fsspec.register_implementation("slow", SlowFiles, clobber=True)
    files = PageFiles("slow://pages", "quire")
    spec = registry.find_spec("quire-tiny-colqwen3", "late-interaction")
    kind = vectors_kind(spec.name, spec.revision)
    pages = [PageKey("t", DOC_ID, number) for number in range(1, 9)]
    rng = np.random.default_rng(0)
    kept = [rng.normal(size=(4, unit(1).shape[1])).astype(np.float32) for _ in pages]
    for page, vectors in zip(pages, kept, strict=True):
        packed = pack_vectors(vectors, (Tile(2, 2),), storage="fp16")
        files.put(*page, data=to_bytes(packed), kind=kind)
    scores = LateSearch(cast(Any, OneWord(spec)), files).score(MultimodalInput(text="a"), pages)
    assert not SlowFiles.together.broken, "four reads never ran at the same time"
    expected = [(unit(1) @ vectors.T).max() for vectors in kept]
    np.testing.assert_allclose(scores, expected, atol=1e-2)
