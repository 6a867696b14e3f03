"""Search over kept multi-vectors: pages that are damaged or have none."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.core import Document
from cluster.errors import InvalidInput, NotFound
from cluster.pages.files import PageFiles, PageKey, vectors_kind
from cluster.pages.vectors import PackedVectors, Tile, from_bytes, pack_vectors, to_bytes
from models.inputs import MultimodalInput
from models.late_interaction.model import ColPaliModel
from models.late_interaction.search import LateSearch, pack_page
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
