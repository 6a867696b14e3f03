"""The planner's formulas against real models: parameters, bytes of weights, peaks, operations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, PaliGemmaConfig, Qwen2VLConfig, Qwen3VLModel

import models.qwen3_vl.forward
from cluster.capacity.formulas import (
    PRECISIONS,
    Queue,
    language_bytes,
    language_flops,
    milvus_bytes,
    page_flops,
    replica_memory,
    vision_bytes,
    vision_flops,
    weight_bytes,
)
from cluster.capacity.shapes import (
    COLPALI,
    COLQWEN2,
    QWEN3_VL_2B,
    QWEN3_VL_8B,
    ModelShape,
    Text,
    Vision,
    shape_of,
)
from models.engine.loading import load_checkpoint
from models.engine.random_weights import config_of, write_random_checkpoint
from models.registry import local_spec, registry
from tests.support.peaks import PeakBytes, batch_of, flash_like, meta_model

SIZES = {"2b": QWEN3_VL_2B, "8b": QWEN3_VL_8B}
# Deep and narrow, and widths that nf4 can take.
SMALL = ModelShape(
    "qwen3_vl",
    Vision(3, 128, 256, 4, patch_px=16, merge=2, frames=2, levels=2, positions=144),
    Text(256, 3, 4, 2, 64, 512, 8192),
)


@pytest.mark.parametrize("size", SIZES)
def test_parameters_are_those_of_the_model_that_transformers_builds(size: str) -> None:
    shape = SIZES[size]
    with torch.device("meta"):
        model = Qwen3VLModel._from_config(config_of(shape))
    known = dict(model.named_parameters())
    vision = sum(each.numel() for name, each in known.items() if name.startswith("visual."))
    embedding = known["language_model.embed_tokens.weight"].numel()
    linear = sum(each.numel() for each in known.values()) - vision - embedding
    found = shape.parameters
    assert (found.vision, found.linear, found.embedding) == (vision, linear, embedding)
    assert shape_of(config_of(shape).to_dict()) == shape


def test_parameters_of_the_2b_are_those_that_are_known() -> None:
    assert QWEN3_VL_2B.parameters.total == 2_127_532_032


def test_parameters_of_other_families() -> None:
    """ColPali's and ColQwen2's towers, without their projections."""
    text, vision = COLPALI.text, COLPALI.vision
    config: Any = PaliGemmaConfig(
        text_config={
            "model_type": "gemma",
            "hidden_size": text.width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "head_dim": text.head_dim,
            "intermediate_size": text.mlp,
            "vocab_size": text.vocabulary,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": vision.width,
            "num_hidden_layers": vision.depth,
            "num_attention_heads": vision.heads,
            "intermediate_size": vision.mlp,
            "patch_size": 14,
            "image_size": 448,
            "vision_use_head": False,
        },
        projection_dim=text.width,
    )
    assert _meta_parameters(config) == COLPALI.parameters.total - (text.width + 1) * 128
    text, vision = COLQWEN2.text, COLQWEN2.vision
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": text.width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "intermediate_size": text.mlp,
            "vocab_size": text.vocabulary,
        },
        vision_config={
            "depth": vision.depth,
            "embed_dim": vision.width,
            "hidden_size": text.width,
            "num_heads": vision.heads,
            "mlp_ratio": 4,
        },
    )
    assert _meta_parameters(config) == COLQWEN2.parameters.total - (text.width + 1) * 128


def _meta_parameters(config: Any) -> int:
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    return sum(each.numel() for each in model.parameters())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_random_checkpoint(SMALL, folder)
    return folder


@pytest.mark.parametrize("vision", [False, True], ids=["wide vision", "quantised vision"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_take_what_the_formula_says(small: Path, precision: Any, vision: bool) -> None:
    spec = local_spec(small)
    assert spec.shape == SMALL
    model = load_checkpoint(spec, precision, device="cpu", quantize_vision=vision).model
    held = sum(tensor.nbytes for tensor in _tensors(model))
    # On a CPU what is not quantised is fp32.
    computed = weight_bytes(SMALL, precision, wide_bytes=4, quantize_vision=vision)
    assert computed == pytest.approx(held, rel=0.01)


def _tensors(model: Any) -> list[torch.Tensor]:
    """Parameters, and what bitsandbytes keeps beside them."""
    found: list[torch.Tensor] = []
    for parameter in model.parameters():
        found.append(parameter.data)
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            found += [state.absmax, state.code]
        if (scales := getattr(parameter, "SCB", None)) is not None:
            found.append(scales)
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("pages", "height", "width", "texts"),
    [(1, 832, 640, 0), (15, 832, 640, 0), (8, 1024, 1344, 0), (0, 0, 0, 40), (4, 832, 640, 6)],
)
def test_peaks_are_those_of_the_forward(
    size: str, pages: int, height: int, width: int, texts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Followed tensor by tensor at the real sizes; at most 2 % off, and never 1 % too low."""
    monkeypatch.setattr(models.qwen3_vl.forward, "attend", flash_like)
    shape = SIZES[size]
    batch = batch_of(pages, height, width, texts=texts)
    model = meta_model(shape)
    with PeakBytes() as found:
        model.forward(batch, batch.end_rows)
    tokens, visual = len(batch.token_ids), len(batch.visual_index)
    vision = vision_bytes(shape, 4 * visual, tokens) if pages else 0
    computed = max(vision, language_bytes(shape, visual, tokens))
    assert 0.99 <= computed / found.peak <= 1.02


@pytest.mark.parametrize("size", SIZES)
def test_operations_are_those_of_the_forward(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch counts every matrix product; attention, which it does not see here, is taken off."""
    monkeypatch.setattr(models.qwen3_vl.forward, "attend", flash_like)
    shape = SIZES[size]
    batch = batch_of(1, 832, 640)
    with FlopCounterMode(display=False) as counted:
        meta_model(shape).forward(batch, None)
    vision, text = shape.vision, shape.text
    patches, tokens = 2080, len(batch.token_ids)
    attention = 4 * patches**2 * vision.width * vision.depth
    attention += 2 * tokens**2 * text.heads * text.head_dim * text.layers
    computed = page_flops(shape, 832 * 640, 22) - attention
    assert computed == pytest.approx(counted.get_total_flops(), rel=0.005)
    assert page_flops(shape, 832 * 640, 22) == vision_flops(shape, 2080) + language_flops(
        shape, 542
    )


def test_known_operations_of_a_page() -> None:
    assert page_flops(QWEN3_VL_2B, 640 * 832, 22) / 1e12 == pytest.approx(3.35, rel=0.005)
    assert page_flops(QWEN3_VL_8B, 1024 * 1344, 22) / 1e12 == pytest.approx(27.99, rel=0.005)


def test_memory_of_a_replica_adds_up() -> None:
    memory = replica_memory(QWEN3_VL_8B, "bf16", 8192)
    assert memory.total == memory.allocated + memory.context
    assert memory.activations == max(memory.vision, memory.language)
    sizes = [replica_memory(QWEN3_VL_8B, each, 8192).total for each in PRECISIONS]
    assert sizes == sorted(sizes, reverse=True)  # fp32, bf16, int8, nf4
    assert replica_memory(QWEN3_VL_8B, "bf16", 16_384).total > memory.total


def test_waiting_is_that_of_a_simulated_queue() -> None:
    """Random arrivals, equal service times, one line for all servers."""
    rng = np.random.default_rng(0)
    for servers, busy in ((1, 0.5), (1, 0.8), (3, 0.8), (8, 0.9)):
        queue = Queue(servers, 1.0, busy * servers)
        arrivals = rng.exponential(1 / queue.per_s, 200_000).cumsum()
        free = np.zeros(servers)
        waits = np.empty(len(arrivals))
        for number, arrival in enumerate(arrivals):
            first = int(free.argmin())
            start = max(arrival, free[first])
            waits[number] = start - arrival
            free[first] = start + queue.service_s
        real = float(np.quantile(waits, 0.95))
        assert queue.busy == pytest.approx(busy)
        assert queue.wait_quantile_s(0.95) == pytest.approx(real, rel=0.2, abs=0.15)


def test_a_queue_that_is_overfull_waits_for_ever() -> None:
    assert Queue(2, 1.0, 2.0).wait_quantile_s(0.95) == float("inf")
    assert Queue(2, 1.0, 0.01).wait_quantile_s(0.95) == 0.0


def test_storage_grows_with_rows_and_dimensions() -> None:
    memory, disk = milvus_bytes(1000, 1000, 2048, "fp32")
    assert memory > 1000 * 2048 * 4 and disk > 1000 * 2048 * 4
    assert milvus_bytes(2000, 2000, 2048, "fp32")[0] == pytest.approx(2 * memory, abs=2)
    assert milvus_bytes(1000, 1000, 1024, "fp32")[0] < memory
    # Of half the bytes of a component, as of half the components.
    assert milvus_bytes(1000, 1000, 2048, "fp16") == milvus_bytes(1000, 1000, 1024, "fp32")
    assert milvus_bytes(1000, 1000, 2048, "int8") == milvus_bytes(1000, 1000, 512, "fp32")


def test_rows_without_vectors_and_rows_on_disk_spare_memory() -> None:
    memory, disk = milvus_bytes(3500, 3500, 2048, "fp32")
    fewer, _ = milvus_bytes(3500, 1000, 2048, "fp32")
    assert 0.3 < fewer / memory < 0.5  # texts and terms stay
    mapped, on_disk = milvus_bytes(3500, 3500, 2048, "fp32", mmap=True)
    assert mapped < memory / 2 and on_disk == disk


def test_models_of_one_size_are_one_architecture() -> None:
    specs = registry.specs
    assert specs["qwen3-vl-embedding-2b"].shape.size == specs["qwen3-vl-reranker-2b"].shape.size
    assert specs["colqwen2-v1.0"].shape.size != specs["colpali-v1.3"].shape.size
