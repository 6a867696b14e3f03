"""The embedder equals plain transformers, whatever the batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import Qwen3VLForConditionalGeneration

from benchmarks.reference import PlainEmbedder
from cluster.capacity.shapes import Precision
from cluster.errors import InvalidInput, ModelUnavailable
from models.engine.budget import plan_batches
from models.inputs import MultimodalInput, Video
from models.options import EmbedderOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from models.registry import TINY_FOLDER, registry
from tests.support.checkpoints import picture, save_random_checkpoint

INSTRUCTION = "Find the page that answers the question."
ITEMS = {
    "text": MultimodalInput(text="Where is the invoice for part TX-4711?"),
    "japanese": MultimodalInput(text="令和6年の景気動向", instruction=INSTRUCTION),
    "long text": MultimodalInput(text="a torque wrench for the third gearbox " * 40),
    "image": MultimodalInput(images=(picture(1, 96, 160),)),
    "text and image": MultimodalInput(text="영수증", images=(picture(2, 160, 64),)),
    "images": MultimodalInput(
        text="both sides", images=(picture(3, 64, 64), picture(4, 128, 96), picture(5, 32, 32))
    ),
    "video": MultimodalInput(
        text="the film", video=Video(tuple(picture(i, 64, 96) for i in range(5)), fps=2.0)
    ),
    "video and image": MultimodalInput(
        images=(picture(6, 64, 64),), video=Video(tuple(picture(i, 32, 64) for i in range(4)))
    ),
}


@pytest.fixture(scope="module")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_checkpoint(tmp_path_factory.mktemp("checkpoint"), tied=True)


@pytest.fixture(scope="module", params=["quire-tiny", "random"])
def folder(request: pytest.FixtureRequest, random_checkpoint: Path) -> Path:
    return TINY_FOLDER if request.param == "quire-tiny" else random_checkpoint


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Qwen3VLEmbedder:
    return Qwen3VLEmbedder(EmbedderOptions(model=str(folder), precision="fp32"))


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, np.ndarray]:
    plain = PlainEmbedder.from_folder(folder)
    return {name: plain.embed(item) for name, item in ITEMS.items()}


@pytest.mark.parametrize("name", ITEMS)
def test_alone_equals_plain_transformers(
    name: str, embedder: Qwen3VLEmbedder, expected: dict[str, np.ndarray]
) -> None:
    assert embedder.embed([ITEMS[name]])[0] @ expected[name] >= 0.9999


@pytest.mark.parametrize("order", [list(ITEMS), list(reversed(ITEMS))])
def test_in_a_batch_in_any_order(
    order: list[str], embedder: Qwen3VLEmbedder, expected: dict[str, np.ndarray]
) -> None:
    vectors = embedder.embed([ITEMS[name] for name in order])
    for vector, name in zip(vectors, order, strict=True):
        assert vector @ expected[name] >= 0.9999, name


def test_small_batches_give_the_same_vectors(
    folder: Path, embedder: Qwen3VLEmbedder, expected: dict[str, np.ndarray]
) -> None:
    longest = max(embedder.encode(item).tokens for item in ITEMS.values())
    small = Qwen3VLEmbedder(
        EmbedderOptions(model=str(folder), precision="fp32", batch_tokens=longest)
    )
    for vector, name in zip(small.embed(list(ITEMS.values())), ITEMS, strict=True):
        assert vector @ expected[name] >= 0.9999, name


def test_mean_pooling_is_the_mean_of_every_state(folder: Path) -> None:
    plain = PlainEmbedder.from_folder(folder)
    embedder = Qwen3VLEmbedder(EmbedderOptions(model=str(folder), precision="fp32", pooling="mean"))
    vectors = embedder.embed(list(ITEMS.values()))
    for vector, item in zip(vectors, ITEMS.values(), strict=True):
        mean = torch.nn.functional.normalize(plain.states(item).mean(0), dim=0).numpy()
        assert vector @ mean >= 0.9999


def test_dimensions_truncate_and_renormalise(random_checkpoint: Path) -> None:
    options = EmbedderOptions(model=str(random_checkpoint), precision="fp32")
    whole = Qwen3VLEmbedder(options).embed([ITEMS["text"]])[0]
    short = Qwen3VLEmbedder(
        EmbedderOptions(model=str(random_checkpoint), precision="fp32", dimensions=24)
    ).embed([ITEMS["text"]])[0]
    np.testing.assert_allclose(short, whole[:24] / np.linalg.norm(whole[:24]), atol=1e-6)
    with pytest.raises(InvalidInput, match="128 dimensions"):
        Qwen3VLEmbedder(EmbedderOptions(model=str(random_checkpoint), dimensions=129))


def test_long_text_keeps_template_and_image_tokens(embedder: Qwen3VLEmbedder) -> None:
    limit = embedder.encoder.max_tokens
    item = MultimodalInput(text="漢字 and words " * 9000, images=(picture(1, 96, 160),))
    encoded = embedder.encode(item)
    tail = embedder.encode(MultimodalInput(text="x")).token_ids[-4:]
    assert limit - 8 <= encoded.tokens <= limit
    assert len(encoded.visual_index) == 15
    assert encoded.token_ids[-4:].tolist() == tail.tolist()


def test_special_tokens_in_text_are_only_text(embedder: Qwen3VLEmbedder) -> None:
    encoded = embedder.encode(MultimodalInput(text="<|im_end|> <|image_pad|> <|endoftext|>"))
    closing = encoded.token_ids[-1]
    assert len(encoded.visual_index) == 0
    assert (encoded.token_ids == closing).sum() == 1


def test_many_images_share_the_room(embedder: Qwen3VLEmbedder) -> None:
    images = tuple(picture(seed, 704, 512) for seed in range(40))
    assert embedder.encode(MultimodalInput(images=images)).tokens <= embedder.encoder.max_tokens


def test_images_off_the_grid_are_resized(embedder: Qwen3VLEmbedder) -> None:
    odd = Image.fromarray(picture(9, 101, 333))
    encoded = embedder.encode(MultimodalInput(images=(odd,)))
    assert encoded.visuals[0].shape == (1, 96, 320, 3)


@pytest.mark.parametrize(
    "item",
    [
        MultimodalInput(images=(np.zeros((10, 10), dtype=np.uint8),)),
        MultimodalInput(images=(np.zeros((32, 32, 3), dtype=np.float32),)),
        MultimodalInput(images=(Image.new("RGB", (10_000, 10)),)),
        MultimodalInput(video=Video(())),
        MultimodalInput(video=Video((picture(1, 32, 32), picture(1, 32, 64)))),
        MultimodalInput(instruction="word " * 20_000),
    ],
)
def test_bad_input_is_refused(item: MultimodalInput, embedder: Qwen3VLEmbedder) -> None:
    with pytest.raises(InvalidInput):
        embedder.encode(item)


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.999), ("int8", 0.98), ("nf4", 0.6)])
def test_precisions(precision: Precision, least: float, random_checkpoint: Path) -> None:
    model = str(random_checkpoint)
    exact = Qwen3VLEmbedder(EmbedderOptions(model=model, precision="fp32"))
    items = [ITEMS["text"], ITEMS["text and image"]]
    embedder = Qwen3VLEmbedder(EmbedderOptions(model=model, precision=precision))
    assert embedder.fingerprint.precision == precision
    assert (exact.embed(items) * embedder.embed(items)).sum(1).min() >= least


def test_quantised_vision_is_another_fingerprint(random_checkpoint: Path) -> None:
    options = EmbedderOptions(model=str(random_checkpoint), precision="nf4", quantize_vision=True)
    assert Qwen3VLEmbedder(options).fingerprint.precision == "nf4+vision"


def test_a_width_that_nf4_cannot_do_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="multiple of 64"):
        Qwen3VLEmbedder(EmbedderOptions(model="quire-tiny", precision="nf4"))


def test_registry_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="choose one of"):
        registry.find_spec("gpt-17")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelUnavailable, match="bert"):
        registry.find_spec(str(tmp_path))


@pytest.mark.parametrize("missing", ["tokenizer.json", "model.safetensors", "chat_template.jinja"])
def test_incomplete_checkpoints_are_refused(
    missing: str, tmp_path: Path, random_checkpoint: Path
) -> None:
    for file in random_checkpoint.iterdir():
        if file.name != missing:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(ModelUnavailable, match=missing.split(".")[-1]):
        Qwen3VLEmbedder(EmbedderOptions(model=str(tmp_path)))


def test_known_parameter_counts() -> None:
    assert registry.find_spec("qwen3-vl-embedding-2b").shape.parameters.total == 2_127_532_032
    assert registry.find_spec("qwen3-vl-embedding-8b").shape.parameters.total == 8_144_793_840
    tiny = Qwen3VLForConditionalGeneration.from_pretrained(TINY_FOLDER)
    assert registry.find_spec("quire-tiny").shape.parameters.total == tiny.num_parameters()


@given(st.lists(st.integers(1, 100), max_size=60))
@settings(deadline=None)
def test_no_batch_exceeds_the_budget(tokens: list[int]) -> None:
    batches = plan_batches(tokens, 100)
    assert sorted(index for batch in batches for index in batch) == list(range(len(tokens)))
    assert all(sum(tokens[index] for index in batch) <= 100 for batch in batches)
    # First-fit never leaves two batches half empty.
    assert sum(sum(tokens[index] for index in batch) <= 50 for batch in batches) <= 1


def test_an_input_over_the_budget_is_refused() -> None:
    with pytest.raises(InvalidInput, match="batch_tokens"):
        plan_batches([10, 101], 100)
