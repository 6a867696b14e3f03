"""Multi-vectors: what models give, how they are packed, MaxSim over them."""

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colpali_engine.models import ColPaliProcessor
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from PIL import Image

from cluster.core import Document
from cluster.errors import InvalidInput, ModelUnavailable, NotFound
from cluster.pages.files import PageFiles, PageKey, vectors_kind
from cluster.pages.vectors import (
    PackedVectors,
    Storage,
    Tile,
    from_bytes,
    pack_vectors,
    to_bytes,
)
from models.inputs import MultimodalInput, Picture
from models.late_interaction.maxsim import maxsim, similarities
from models.late_interaction.model import ColPaliModel
from models.late_interaction.pooling import merge_tokens, pool_tokens
from models.late_interaction.search import LateSearch, pack_page
from models.options import LateInteractionOptions
from models.registry import ModelSpec, registry
from tests.support import late
from tests.support.checkpoints import picture

FAMILIES: dict[str, tuple[Callable[[Path], Path], int, int]] = {
    "colpali": (late.save_colpali, 128, 48),
    "colqwen2": (late.save_colqwen2, 128, 48),
    "colqwen3": (late.save_colqwen3, 320, 496),
}
DOC_ID = "0" * 32


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    name: str = request.param
    return str(FAMILIES[name][0](tmp_path_factory.mktemp("late") / name))


@pytest.fixture(scope="module")
def model(family: str) -> ColPaliModel:
    return ColPaliModel(LateInteractionOptions(model=family))


def unit(rows: int, dimension: int = 128, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


# Models


def test_every_vector_has_its_cell_and_unit_length(model: ColPaliModel, family: str) -> None:
    _, dimension, width = FAMILIES[Path(family).name]
    pages: list[Picture] = [Image.fromarray(picture(1, 200, 150)), picture(2, 300, 420)]
    found = model.embed_images(pages, hidden=True)
    for page in found:
        rows, columns = page.grid
        assert page.vectors.shape == (rows * columns, dimension)
        assert page.hidden is not None
        assert page.hidden.shape == (rows * columns, width)
        np.testing.assert_allclose(np.linalg.norm(page.vectors, axis=1), 1, atol=1e-5)
    assert model.spec.dimension == dimension
    if "colqwen" in family:  # of the page's own shape
        assert found[0].grid[0] > found[0].grid[1]
        assert found[1].grid[0] < found[1].grid[1]


def test_what_is_padded_with_a_page_changes_nothing(model: ColPaliModel) -> None:
    pages = [picture(1, 220, 100), picture(2, 300, 420), picture(3, 64, 64)]
    together = model.embed_images(pages, hidden=True)
    for page, among in zip(pages, together, strict=True):
        (alone,) = model.embed_images([page], hidden=True)
        np.testing.assert_allclose(among.vectors, alone.vectors, atol=1e-5)
        assert alone.hidden is not None and among.hidden is not None
        np.testing.assert_allclose(among.hidden, alone.hidden, atol=1e-3)


def test_hidden_states_are_those_before_the_projection(model: ColPaliModel) -> None:
    (page,) = model.embed_images([picture(1, 120, 90)], hidden=True)
    assert page.hidden is not None
    projected = model._model.custom_text_proj(torch.from_numpy(page.hidden))
    expected = torch.nn.functional.normalize(projected, dim=-1).detach().numpy()
    np.testing.assert_allclose(page.vectors, expected, atol=1e-5)


def test_four_tiles_are_the_page_and_its_quarters(model: ColPaliModel) -> None:
    page = picture(4, 260, 200)
    (tiled,) = model.embed_images([page], tiles=4)
    (whole,) = model.embed_images([page])
    assert len(tiled.tiles) == 5
    assert len(tiled.vectors) == sum(tile.cells for tile in tiled.tiles)
    np.testing.assert_allclose(tiled.vectors[: whole.tiles[0].cells], whole.vectors, atol=1e-5)
    (quarter,) = model.embed_images([page[:130, 100:]])
    start = whole.tiles[0].cells + tiled.tiles[1].cells
    second = tiled.vectors[start : start + tiled.tiles[2].cells]
    np.testing.assert_allclose(second, quarter.vectors, atol=1e-5)
    assert tiled.tiles[2].box == (0.5, 0.0, 1.0, 0.5)
    with pytest.raises(InvalidInput, match="tiles is 1"):
        model.embed_images([page], tiles=2)


def test_questions_of_words_and_of_pictures(model: ColPaliModel) -> None:
    words = model.embed_query("a b")
    assert len(words) == len(model.query_tokens("a b"))
    assert any(model.query_tokens("a b"))
    shot = picture(5, 64, 64)
    (seen,) = model.embed_images([shot])
    both = model.embed_query("a b", shot)
    np.testing.assert_allclose(both, np.concatenate([words, seen.vectors]), atol=1e-5)
    with pytest.raises(InvalidInput, match="give a text"):
        model.embed_query(" ")


def test_an_adapter_loads_on_its_pinned_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from colpali_engine.models import ColPali

    base = late.save_colpali(tmp_path / "base")
    plain = ColPali.from_pretrained(base)
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    torch.manual_seed(1)
    tuned = get_peft_model(plain, lora)
    adapter = tmp_path / "adapter"
    tuned.save_pretrained(str(adapter))
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"]
    spec = ModelSpec(
        name="adapted",
        kind="late-interaction",
        checkpoint=str(adapter),
        revision="r",
        base=str(base),
        base_revision="b",
        dimension=128,
        shape=registry.specs["colpali-v1.3"].shape,
        max_pixels=56 * 56,
        max_tokens=64,
    )
    monkeypatch.setattr(registry, "find", lambda model, kind="embedder": spec)
    page = picture(1, 56, 56)
    (with_adapter,) = ColPaliModel(LateInteractionOptions(model="adapted")).embed_images([page])
    merged = tuned.merge_and_unload()
    encoded = ColPaliProcessor.from_pretrained(base).process_images([Image.fromarray(page)])
    encoded.pop("labels", None)
    expected = merged(**encoded)[0, :16].detach().numpy()
    np.testing.assert_allclose(with_adapter.vectors, expected, atol=1e-4)
    without = ColPali.from_pretrained(base)(**encoded)[0, :16].detach().numpy()
    assert np.abs(without - expected).max() > 1e-3


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    from models.registry import TINY_FOLDER

    with pytest.raises(ModelUnavailable, match="no custom_text_proj"):
        registry.find_spec(str(TINY_FOLDER), "late-interaction")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelUnavailable, match="'bert'"):
        registry.find_spec(str(tmp_path), "late-interaction")
    with pytest.raises(ModelUnavailable, match="choose one of colpali"):
        registry.find_spec("colpali", "late-interaction")


# Packing


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
    files = PageFiles(str(tmp_path))
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


def test_special_tokens_and_narrow_pictures_do_no_harm(model: ColPaliModel) -> None:
    for special in model._processor.tokenizer.all_special_tokens:
        vectors = model.embed_query(f"a {special} b")
        assert len(vectors) == len(model.query_tokens(f"a {special} b"))
    narrow = np.full((2400, 3, 3), 255, np.uint8)
    (found,) = model.embed_images([narrow], tiles=4)
    assert np.isfinite(found.vectors).all()
    assert len(model.embed_query("word " * 9000)) < 3000


def test_merged_tokens_stand_for_their_cells() -> None:
    centres = unit(10)
    noise = 0.02 * unit(30, seed=1)
    near = np.repeat(centres, 3, axis=0) + noise
    vectors = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    merged, members = merge_tokens(vectors, 3)
    assert merged.shape == (10, 128)
    assert all(len(set(members[start : start + 3])) == 1 for start in range(0, 30, 3))
    assert len(set(members.tolist())) == 10
    packed = from_bytes(
        to_bytes(pack_vectors(merged, (Tile(5, 6),), storage="fp16", members=members))
    )
    assert packed.cell_vectors.shape == (30, 128)
    np.testing.assert_allclose((packed.cell_vectors * vectors).sum(axis=1), 1, atol=0.01)


# MaxSim


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    words=st.integers(1, 12),
    dimension=st.sampled_from([8, 128, 320]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_maxsim_is_colpali_engines(
    lengths: list[int], words: int, dimension: int, seed: int
) -> None:
    pages = [unit(length, dimension, seed + i) for i, length in enumerate(lengths)]
    query = unit(words, dimension, seed + 77)
    for storage in ("fp16", "int8", "binary"):
        packed = [pack_vectors(page, (Tile(1, len(page)),), storage=storage) for page in pages]
        decoded = [torch.from_numpy(page.decode()) for page in packed]
        # A page alone: padded with zeros beside a longer one, no product of its would count as
        # below zero.
        expected = [
            ColPaliProcessor.score_multi_vector(
                [torch.from_numpy(query)], [page], device="cpu"
            ).item()
            for page in decoded
        ]
        np.testing.assert_allclose(maxsim(query, packed), expected, atol=1e-4)


def test_the_best_cell_is_where_the_query_was_put() -> None:
    query = unit(3)
    page = unit(20, seed=5)
    page[[4, 9, 17]] = query
    packed = pack_vectors(page, (Tile(4, 5),), storage="int8")
    assert similarities(query, packed.cell_vectors).argmax(axis=1).tolist() == [4, 9, 17]


@pytest.mark.parametrize("pooling", ["mean", "max", "std", "concat", "attention"])
def test_pooling_of_tokens(pooling: str) -> None:
    tokens = unit(50)
    pooled = pool_tokens(tokens, pooling)  # type: ignore[arg-type]
    parts = {"mean": tokens.mean(0), "max": tokens.max(0), "std": tokens.std(0)}
    expected = {**parts, "concat": np.concatenate(list(parts.values()))}
    if pooling != "attention":
        np.testing.assert_allclose(pooled, expected[pooling], atol=1e-6)
    else:
        assert pooled.shape == (128,)
        assert tokens.min() <= pooled.min() and pooled.max() <= tokens.max()
        np.testing.assert_allclose(pool_tokens(10 * tokens, "attention"), 10 * pooled, atol=1e-4)
    assert pool_tokens(tokens[:1], pooling).shape == pooled.shape  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        pool_tokens(tokens[:0], pooling)  # type: ignore[arg-type]


# Kept pages


def test_pages_without_multi_vectors_of_the_model_score_nothing(
    model: ColPaliModel, tmp_path: Path
) -> None:
    files = PageFiles(str(tmp_path))
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
