"""Multi-vectors: what models give."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from colpali_engine.models import ColPaliProcessor
from peft import LoraConfig, get_peft_model
from PIL import Image

from cluster.errors import InvalidInput, ModelUnavailable
from models.inputs import Picture
from models.late_interaction.model import ColPaliModel
from models.options import LateInteractionOptions
from models.registry import ModelSpec, registry
from tests.support import late
from tests.support.checkpoints import picture
from tests.support.late import FAMILIES


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
    monkeypatch.setattr(registry, "find_spec", lambda model, kind="embedder": spec)
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


def test_special_tokens_and_narrow_pictures_do_no_harm(model: ColPaliModel) -> None:
    for special in model._processor.tokenizer.all_special_tokens:
        vectors = model.embed_query(f"a {special} b")
        assert len(vectors) == len(model.query_tokens(f"a {special} b"))
    narrow = np.full((2400, 3, 3), 255, np.uint8)
    (found,) = model.embed_images([narrow], tiles=4)
    assert np.isfinite(found.vectors).all()
    assert len(model.embed_query("word " * 9000)) < 3000
