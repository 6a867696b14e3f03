"""Our modules against transformers': the same states, bit by bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3VLModel

from cluster.errors import ModelUnavailable
from models.engine.loading import Checkpoint, load_checkpoint, load_weights
from models.engine.modules import Qwen3VL, is_covered
from models.inputs import MultimodalInput, Video
from models.qwen3_vl.encoder import InputEncoder
from models.qwen3_vl.forward import PackedQwen3VL
from models.qwen3_vl.packing import PackedBatch, pack
from models.registry import TINY_FOLDER, TINY_RERANKER_FOLDER, local_spec
from tests.support.checkpoints import picture, save_random_checkpoint

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@pytest.fixture(scope="module")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_checkpoint(tmp_path_factory.mktemp("checkpoint"), tied=False)


@pytest.fixture(params=["quire-tiny", "quire-tiny-reranker", "random"])
def folder(request: pytest.FixtureRequest, random_checkpoint: Path) -> Path:
    shipped = {"quire-tiny": TINY_FOLDER, "quire-tiny-reranker": TINY_RERANKER_FOLDER}
    return shipped.get(request.param, random_checkpoint)


def batch(checkpoint: Checkpoint) -> PackedBatch:
    encoder = InputEncoder(
        checkpoint.processor,
        min_pixels=4096,
        max_pixels=65_536,
        max_tokens=2048,
        instruction="Represent it.",
    )
    film = Video(tuple(picture(number, 64, 96) for number in range(4)))
    items = [
        MultimodalInput(text="cracked seat tube, 焙煎"),
        MultimodalInput(text="a page", images=(picture(0, 160, 224), picture(1, 64, 64))),
        MultimodalInput(video=film),
    ]
    return pack([encoder.encode(item) for item in items])


def states(checkpoint: Checkpoint, model: Any) -> torch.Tensor:
    normal = checkpoint.processor.image_processor
    packed = PackedQwen3VL(model, normal.image_mean, normal.image_std)
    return packed.forward(batch(checkpoint))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_states_are_those_of_transformers_modules(folder: Path, precision: Any) -> None:
    checkpoint = load_checkpoint(local_spec(folder), precision, device="cpu")
    assert isinstance(checkpoint.model, Qwen3VL)
    plain = load_weights(Qwen3VLModel, folder, dtype=DTYPES[precision], device="cpu")
    assert torch.equal(states(checkpoint, checkpoint.model), states(checkpoint, plain))


def changed(folder: Path, to: Path, **text: Any) -> Path:
    """A copy of a checkpoint with other settings of its language model."""
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).symlink_to(file)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= text
    (to / "config.json").unlink()
    (to / "config.json").write_text(json.dumps(config))
    return to


def test_what_our_modules_do_not_compute_is_left_to_transformers(
    random_checkpoint: Path, tmp_path: Path
) -> None:
    other = changed(random_checkpoint, tmp_path / "gelu", hidden_act="gelu")
    assert not is_covered(json.loads((other / "config.json").read_text()))
    checkpoint = load_checkpoint(local_spec(other), "fp32", device="cpu")
    assert isinstance(checkpoint.model, Qwen3VLModel)
    assert torch.isfinite(states(checkpoint, checkpoint.model)).all()


def test_older_names_of_rotations(random_checkpoint: Path, tmp_path: Path) -> None:
    text = json.loads((random_checkpoint / "config.json").read_text())["text_config"]
    rope = dict(text["rope_parameters"])
    theta = rope.pop("rope_theta")
    older = changed(
        random_checkpoint,
        tmp_path / "older",
        rope_parameters=None,
        rope_scaling=rope,
        rope_theta=theta,
    )
    today, before = (
        load_checkpoint(local_spec(each), "fp32", device="cpu")
        for each in (random_checkpoint, older)
    )
    assert torch.equal(states(today, today.model), states(before, before.model))


def test_weights_in_several_files_and_without_a_prefix(
    random_checkpoint: Path, tmp_path: Path
) -> None:
    tensors = load_file(random_checkpoint / "model.safetensors")
    sharded = changed(random_checkpoint, tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in files.items():
        save_file({name.removeprefix("model."): tensors[name] for name in part}, sharded / file)
    index = {name: file for file, part in files.items() for name in part}
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    save_file({"other": torch.zeros(1)}, sharded / "consolidated.safetensors")  # is not asked for
    whole, parts = (
        load_checkpoint(local_spec(each), "fp32", device="cpu")
        for each in (random_checkpoint, sharded)
    )
    assert torch.equal(states(whole, whole.model), states(parts, parts.model))


def test_weights_that_are_missing_or_of_another_shape_are_an_error(
    random_checkpoint: Path, tmp_path: Path
) -> None:
    tensors = load_file(random_checkpoint / "model.safetensors")
    del tensors["model.language_model.norm.weight"]
    tensors["model.visual.merger.norm.weight"] = torch.zeros(3)
    lacking = changed(random_checkpoint, tmp_path / "lacking")
    (lacking / "model.safetensors").unlink()
    save_file(tensors, lacking / "model.safetensors")
    with pytest.raises(ModelUnavailable, match="lacks 2 weights"):
        load_checkpoint(local_spec(lacking), "fp32", device="cpu")


def test_a_cut_file_is_an_error(random_checkpoint: Path, tmp_path: Path) -> None:
    cut = changed(random_checkpoint, tmp_path / "cut")
    data = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").unlink()
    (cut / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        load_checkpoint(local_spec(cut), "fp32", device="cpu")
