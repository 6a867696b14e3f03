"""A checkpoint's tokenizer, chat template and normalisation of pixels, read from its own files.

transformers' processors give the same (tests hold them to it), but import torchvision and torch's
compilers, seconds of every start, for image processing that models/qwen3_vl/visuals.py does here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from cluster.errors import ModelUnavailable

NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")
LISTED_TOKENS = ("additional_special_tokens", "extra_special_tokens")
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each colour, in 0 … 1."""

    image_mean: list[float]
    image_std: list[float]

    @classmethod
    def of(cls, folder: Path) -> "Normalization":
        """Read what a checkpoint declares. Raises ModelUnavailable."""
        file = next(folder / name for name in PROCESSOR_FILES if (folder / name).is_file())
        declared = _read_json(file)
        declared = declared.get("image_processor", declared)
        try:
            return cls(declared["image_mean"], declared["image_std"])
        except KeyError as error:
            raise ModelUnavailable(f"{file} lacks {error}") from error


class CheckpointTokenizer:
    """The tokenizer of a checkpoint's tokenizer.json, called like one of transformers."""

    def __init__(self, folder: Path) -> None:
        """Read tokenizer.json and tokenizer_config.json. Raises ModelUnavailable."""
        file = folder / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises no other class
            raise ModelUnavailable(f"{file} cannot be read: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        file = folder / "tokenizer_config.json"
        self.config = _read_json(file) if file.is_file() else {}
        self.all_special_tokens = self._special_tokens()

    def __call__(
        self, text: str, *, add_special_tokens: bool = True, return_offsets_mapping: bool = False
    ) -> dict[str, Any]:
        """Return `input_ids`, and where in the text each token stands if that is wanted."""
        encoded = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        offsets = {"offset_mapping": encoded.offsets} if return_offsets_mapping else {}
        return {"input_ids": encoded.ids, **offsets}

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """Return the id of a token, None where the vocabulary lacks it."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def get_vocab(self) -> dict[str, int]:
        """Return the ids of all tokens, added ones included."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return vocabulary

    def named_tokens(self) -> dict[str, str]:
        """Return the special tokens that have a role, by their role, as templates know them."""
        return {name: _content(self.config[name]) for name in NAMED_TOKENS if self.config.get(name)}

    def _special_tokens(self) -> list[str]:
        """Return the tokens that no text may contain; all of tokenizer.json's where none is listed.

        A tokenizer may have others of its own, such as the roles of a conversation.
        """
        tokens = list(self.named_tokens().values())
        for name in LISTED_TOKENS:
            listed = self.config.get(name) or []
            tokens += map(_content, listed.values() if isinstance(listed, dict) else listed)
        if not any(self.config.get(name) for name in LISTED_TOKENS):
            added = self._tokenizer.get_added_tokens_decoder().values()
            tokens += [token.content for token in added if token.special]
        return list(dict.fromkeys(tokens))


class Processor:
    """Turns a conversation into the text that a checkpoint was trained with, and its tokens."""

    image_token = "<|image_pad|>"  # noqa: S105 — tokens of the vocabulary
    video_token = "<|video_pad|>"  # noqa: S105
    vision_start_token = "<|vision_start|>"  # noqa: S105
    vision_end_token = "<|vision_end|>"  # noqa: S105

    def __init__(self, folder: Path) -> None:
        """Read a checkpoint's files. Raises ModelUnavailable."""
        self.tokenizer = CheckpointTokenizer(folder)
        self.image_processor = Normalization.of(folder)
        self.image_token_id = self._id_of(self.image_token)
        self.video_token_id = self._id_of(self.video_token)
        try:
            self._template = _environment().from_string(_read_template(folder))
        except TemplateError as error:
            raise ModelUnavailable(f"the chat template in {folder} is wrong: {error}") from error

    def apply_chat_template(
        self, conversation: Sequence[dict[str, Any]], *, add_generation_prompt: bool
    ) -> str:
        """Render a conversation as one string. Raises ModelUnavailable where the template fails."""
        try:
            return self._template.render(
                messages=conversation,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self.tokenizer.named_tokens(),
            )
        except TemplateError as error:
            raise ModelUnavailable(f"the checkpoint's chat template fails: {error}") from error

    def _id_of(self, token: str) -> int:
        number = self.tokenizer.convert_tokens_to_ids(token)
        if number is None:
            raise ModelUnavailable(f"this checkpoint has no token {token}: it is no Qwen3-VL model")
        return number


def _environment() -> ImmutableSandboxedEnvironment:
    """Return the sandbox that transformers renders chat templates in."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=False, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    return environment


def _read_template(folder: Path) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text()
    return str(_read_json(folder / "chat_template.json").get("chat_template", ""))


def _content(token: Any) -> str:
    """Return a token's text; files have it alone or with its properties."""
    return str(token["content"] if isinstance(token, dict) else token)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{file} cannot be read: {error}") from error
    return content
