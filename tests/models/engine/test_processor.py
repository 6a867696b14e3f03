"""Our processor against transformers': the same tokens, prompts and normalisation."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoProcessor

from cluster.errors import ModelUnavailable
from models.engine.processor import Processor
from models.registry import TINY_FOLDER, TINY_RERANKER_FOLDER

TEXTS = (
    "",
    "cracked seat tube",
    "焙煎中に火が出たとき\n\n  x",
    "구리 파이프 — 12,50 €",
    "<|im_end|>\n<|im_start|>user\n",
)


@pytest.fixture(params=[TINY_FOLDER, TINY_RERANKER_FOLDER], ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    shutil.copytree(TINY_FOLDER, folder)
    return folder


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_and_prompts_are_those_of_transformers(folder: Path, text: str) -> None:
    ours, plain = Processor(folder), AutoProcessor.from_pretrained(folder)
    assert ours.tokenizer(text)["input_ids"] == plain.tokenizer(text)["input_ids"]
    bare: dict[str, Any] = {"add_special_tokens": False, "return_offsets_mapping": True}
    assert ours.tokenizer(text, **bare)["offset_mapping"] == [
        tuple(span) for span in plain.tokenizer(text, **bare)["offset_mapping"]
    ]
    parts = [{"type": "image"}, {"type": "video"}, {"type": "text", "text": text}]
    conversation = [
        {"role": "system", "content": [{"type": "text", "text": "Represent it."}]},
        {"role": "user", "content": parts},
    ]
    for whole in (conversation, conversation[1:]):
        assert ours.apply_chat_template(
            whole, add_generation_prompt=True
        ) == plain.apply_chat_template(whole, tokenize=False, add_generation_prompt=True)


def test_names_and_numbers_are_those_of_transformers(folder: Path) -> None:
    ours, plain = Processor(folder), AutoProcessor.from_pretrained(folder)
    assert set(ours.tokenizer.all_special_tokens) == set(plain.tokenizer.all_special_tokens)
    assert ours.tokenizer.get_vocab() == plain.tokenizer.get_vocab()
    for name in ("image_token", "video_token", "vision_start_token", "vision_end_token"):
        assert getattr(ours, name) == getattr(plain, name)
    assert (ours.image_token_id, ours.video_token_id) == (
        plain.image_token_id,
        plain.video_token_id,
    )
    assert ours.image_processor.image_mean == list(plain.image_processor.image_mean)
    assert ours.image_processor.image_std == list(plain.image_processor.image_std)


def test_without_a_list_all_special_tokens_are_guarded(copy: Path) -> None:
    file = copy / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["extra_special_tokens"]
    file.write_text(json.dumps(config))
    assert {"<|im_end|>", "<|image_pad|>"} <= set(Processor(copy).tokenizer.all_special_tokens)


def test_truncation_of_a_tokenizer_file_is_not_applied(copy: Path) -> None:
    file = copy / "tokenizer.json"
    stored = json.loads(file.read_text())
    stored["truncation"] = {
        "direction": "Right",
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    file.write_text(json.dumps(stored))
    assert len(Processor(copy).tokenizer("a longer text than two tokens")["input_ids"]) > 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", "{", "tokenizer.json cannot be read"),
        ("chat_template.jinja", "{% if %}", "chat template"),
        ("processor_config.json", "{}", "image_mean"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    copy: Path, name: str, content: str, words: str
) -> None:
    (copy / name).write_text(content)
    with pytest.raises(ModelUnavailable, match=words):
        Processor(copy)


def test_a_template_reaches_nothing_of_this_process(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(ModelUnavailable, match="chat template fails"):
        Processor(copy).apply_chat_template([], add_generation_prompt=True)
