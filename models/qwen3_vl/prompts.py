"""A conversation in a checkpoint's own chat template → token ids and positions."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.errors import InvalidInput
from models.engine.processor import Processor
from models.images import MERGE, PATCH_PX
from models.inputs import EncodedInput, Video
from models.qwen3_vl.visuals import FRAMES_PER_STEP, visual_tokens

Part = dict[str, str]
IMAGE: Part = {"type": "image"}
VIDEO: Part = {"type": "video"}


@dataclass(frozen=True)
class Prompt:
    """A system message and the user's turn; one part stands for each visual, in their order."""

    system: str
    parts: tuple[Part, ...]
    visuals: tuple[np.ndarray, ...] = ()
    video: Video | None = None


class PromptTokenizer:
    """Renders and tokenises prompts for one checkpoint; template and tokens are its own."""

    def __init__(self, processor: Processor, *, closing_token: str = "") -> None:
        """`closing_token`: what every input ends on; "" leaves the end to the template."""
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.image_id: int = processor.image_token_id
        self.video_id: int = processor.video_token_id
        self._frame = processor.vision_start_token + processor.video_token
        self._frame += processor.vision_end_token
        self.neutral = neutralizer(self.tokenizer)
        self._closing = self._closing_ids(closing_token)

    def encode(self, prompt: Callable[[str], Prompt], text: str, max_tokens: int) -> EncodedInput:
        """Return the prompt that holds `text`, with the end of the text cut where it is too long.

        Template and image tokens stay whole. Raises InvalidInput where they alone are too long.
        """
        whole = prompt(text)
        ids = self._token_ids(whole)
        if len(ids) > max_tokens:
            ids = self._cut(prompt, text, len(ids) - max_tokens, max_tokens)
        is_visual = (ids == self.image_id) | (ids == self.video_id)
        return EncodedInput(
            token_ids=ids,
            positions=mrope_positions(is_visual, whole.visuals),
            visual_index=np.flatnonzero(is_visual),
            visuals=whole.visuals,
        )

    def _closing_ids(self, token: str) -> list[int]:
        """Return what must be appended so that inputs end on `token`: some tokenizers add it."""
        if not token:
            return []
        closing = self.tokenizer.get_vocab()[token]
        probe = self._render(Prompt("x", ({"type": "text", "text": "x"},)))
        return [] if self.tokenizer(probe)["input_ids"][-1] == closing else [closing]

    def _render(self, prompt: Prompt) -> str:
        """Return the conversation as one string, one placeholder a visual."""
        conversation = [
            {"role": "system", "content": [{"type": "text", "text": self.neutral(prompt.system)}]},
            {"role": "user", "content": [self._neutral_part(part) for part in prompt.parts]},
        ]
        return self.processor.apply_chat_template(conversation, add_generation_prompt=True)

    def _neutral_part(self, part: Part) -> Part:
        return {**part, "text": self.neutral(part["text"])} if "text" in part else part

    def _token_ids(self, prompt: Prompt) -> np.ndarray:
        """int64[tokens], each placeholder repeated for its visual tokens."""
        rendered = self._render(prompt)
        if prompt.video:
            # Some templates wrap the video in start and end tokens; each step has its own.
            rendered = rendered.replace(self._frame, self.processor.video_token)
            frames = self._timed_frames(prompt.video)
            rendered = rendered.replace(self.processor.video_token, frames, 1)
        ids = np.array(self.tokenizer(rendered)["input_ids"] + self._closing, dtype=np.int64)
        is_visual = (ids == self.image_id) | (ids == self.video_id)
        repeats = np.ones(len(ids), dtype=np.int64)
        counts = [tokens for visual in prompt.visuals for tokens in visual_tokens(visual)]
        if int(is_visual.sum()) != len(counts):
            raise InvalidInput("the checkpoint's chat template does not show every image")
        repeats[is_visual] = counts
        return np.repeat(ids, repeats)

    def _timed_frames(self, video: Video) -> str:
        """Return one placeholder for each pair of frames behind its mean time, in seconds."""
        count = len(video.frames)
        padded = count + count % FRAMES_PER_STEP
        times = [min(index, count - 1) / video.fps for index in range(padded)]
        return "".join(
            f"<{(first + second) / 2:.1f} seconds>{self._frame}"
            for first, second in zip(times[::2], times[1::2], strict=True)
        )

    def _cut(
        self, prompt: Callable[[str], Prompt], text: str, excess: int, max_tokens: int
    ) -> np.ndarray:
        """Token ids with the end of the text cut."""
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        keep = len(offsets)
        ids = np.empty(0, dtype=np.int64)
        while excess > 0:
            keep -= excess
            if keep <= 0:
                raise InvalidInput(
                    f"without the text that may be cut, an input exceeds {max_tokens} tokens: use "
                    "fewer or smaller images, a shorter instruction, or a shorter query"
                )
            # A cut can fall apart into more tokens than it had inside the longer text.
            ids = self._token_ids(prompt(text[: offsets[keep - 1][1]]))
            excess = len(ids) - max_tokens
        return ids


def neutralizer(tokenizer: Any) -> Callable[[str], str]:
    """Return a function that makes text of which no part is a special token of the checkpoint.

    Whoever writes "<|im_end|>" into a document must not close the user's turn.
    """
    specials = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
    pattern = re.compile("|".join(re.escape(token) for token in specials))
    return lambda text: pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


def content_of(text: str, images: int) -> tuple[Part, ...]:
    """Image parts and a text part; "NULL" where there is neither, as in the reference."""
    parts = (IMAGE,) * images
    if text or not images:
        parts += ({"type": "text", "text": text or "NULL"},)
    return parts


def mrope_positions(is_visual: np.ndarray, visuals: Sequence[np.ndarray]) -> np.ndarray:
    """int64[3, tokens]: time, row and column of each token.

    Text counts on by one in all three; a visual step starts where the text stopped, spreads over
    its rows and columns, and the text goes on after the longer side. Source: `get_rope_index` of
    Qwen3-VL, where every step of a video is an image of its own.
    """
    positions = np.empty((3, len(is_visual)), dtype=np.int64)
    steps = [
        (visual.shape[1] // PATCH_PX // MERGE, visual.shape[2] // PATCH_PX // MERGE)
        for visual in visuals
        for _ in visual_tokens(visual)
    ]
    start = token = 0
    visual_at = np.flatnonzero(is_visual)
    seen = 0
    for rows, columns in steps:
        first = int(visual_at[seen])
        text = first - token
        positions[:, token:first] = start + np.arange(text)
        start += text
        end = first + rows * columns
        positions[0, first:end] = start
        positions[1, first:end] = start + np.repeat(np.arange(rows), columns)
        positions[2, first:end] = start + np.tile(np.arange(columns), rows)
        start += max(rows, columns)
        token = end
        seen += rows * columns
    positions[:, token:] = start + np.arange(len(is_visual) - token)
    return positions
