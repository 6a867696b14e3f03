"""One multimodal input → chat template → token ids, positions and uint8 pixels.

Not covered: fetching images by URL or path, and decoding video files; callers hand over images.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cluster.errors import InvalidInput
from models.images import FACTOR_PX, MERGE, PATCH_PX, to_grid

CLOSING_TOKEN = "<|endoftext|>"  # noqa: S105 — a token of the vocabulary
TEXT_RESERVE_TOKENS = 256  # room kept for the template when many images share the input
VIDEO_BUDGET_IMAGES = 10  # a video may cost as much as this many images (reference: 10 frames)
FRAMES_PER_STEP = 2  # the vision tower reads two frames at a time


@dataclass(frozen=True)
class Video:
    """Frames that were sampled at `fps` frames a second, as images, oldest first."""

    frames: tuple[Image.Image | np.ndarray, ...]
    fps: float = 2.0


@dataclass(frozen=True)
class MultimodalInput:
    """Text, images, a video, or any mix. Images are RGB: PIL or uint8[height, width, 3].

    `instruction` None takes the embedder's own.
    """

    text: str = ""
    images: tuple[Image.Image | np.ndarray, ...] = ()
    video: Video | None = None
    instruction: str | None = None


@dataclass(frozen=True)
class EncodedInput:
    """What the device needs of one input.

    token_ids: int64[tokens]; positions: int64[3, tokens] (time, row, column of mrope);
    visuals: one uint8[frames, height, width, 3] for each image (1 frame) or video (even), in the
    order in which their tokens stand; visual_index: int64[visual tokens].
    """

    token_ids: np.ndarray
    positions: np.ndarray
    visual_index: np.ndarray
    visuals: tuple[np.ndarray, ...]

    @property
    def tokens(self) -> int:
        return len(self.token_ids)


class InputEncoder:
    """Encodes inputs for one checkpoint; the template and the special tokens are its own."""

    def __init__(
        self, processor: Any, *, min_pixels: int, max_pixels: int, max_tokens: int, instruction: str
    ) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.min_pixels = min_pixels
        self.max_pixels = max_pixels
        self.max_tokens = max_tokens
        self.instruction = instruction
        self.image_id: int = processor.image_token_id
        self.video_id: int = processor.video_token_id
        self._frame = processor.vision_start_token + processor.video_token
        self._frame += processor.vision_end_token
        specials = sorted(self.tokenizer.all_special_tokens, key=len, reverse=True)
        # Whoever writes "<|im_end|>" into a document must not close the user's turn.
        self._special = re.compile("|".join(re.escape(token) for token in specials))
        # Invariant: every input ends on the token that the model pools at. Checkpoints differ in
        # whether the tokenizer adds it.
        closing = self.tokenizer.convert_tokens_to_ids(CLOSING_TOKEN)
        ids = self.tokenizer(self._render(MultimodalInput(text="x"), "x"))["input_ids"]
        self._append = [] if ids[-1] == closing else [closing]

    def encode(self, item: MultimodalInput) -> EncodedInput:
        """Tokenise and resize one input. Raises InvalidInput where it cannot fit."""
        visuals = self._visuals(item)
        ids = self._token_ids(item, item.text, visuals)
        if len(ids) > self.max_tokens:
            ids = self._cut(item, visuals, excess=len(ids) - self.max_tokens)
        is_visual = (ids == self.image_id) | (ids == self.video_id)
        return EncodedInput(
            token_ids=ids,
            positions=mrope_positions(is_visual, visuals),
            visual_index=np.flatnonzero(is_visual),
            visuals=visuals,
        )

    def _visuals(self, item: MultimodalInput) -> tuple[np.ndarray, ...]:
        """Images and then the video, each uint8[frames, height, width, 3] on the grid."""
        sources = len(item.images) + (1 if item.video else 0)
        if not sources:
            return ()
        room = (self.max_tokens - TEXT_RESERVE_TOKENS) * FACTOR_PX * FACTOR_PX // sources
        budget = min(self.max_pixels, room)
        grids = [self._grid(image, budget)[None] for image in item.images]
        if item.video:
            if not item.video.frames or item.video.fps <= 0:
                raise InvalidInput("a video needs at least one frame and an fps above 0")
            steps = -(-len(item.video.frames) // FRAMES_PER_STEP)
            share = min(budget, min(VIDEO_BUDGET_IMAGES * self.max_pixels, room) // steps)
            frames = [self._grid(frame, share) for frame in item.video.frames]
            if len({frame.shape for frame in frames}) > 1:
                raise InvalidInput("the frames of a video must have one size")
            frames += frames[-1:] * (-len(frames) % FRAMES_PER_STEP)
            grids.insert(0, np.stack(frames))  # the template puts videos first
        return tuple(grids)

    def _grid(self, image: Image.Image | np.ndarray, budget: int) -> np.ndarray:
        if budget < self.min_pixels:
            raise InvalidInput(
                f"too many images or frames for an input of {self.max_tokens} tokens: split it"
            )
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise InvalidInput(
                    f"an image must be uint8[height, width, 3], not {image.dtype}{image.shape}"
                )
            fits = image.shape[0] * image.shape[1] <= budget
            if fits and not image.shape[0] % FACTOR_PX and not image.shape[1] % FACTOR_PX:
                return image
            image = Image.fromarray(image)
        return to_grid(image, min_pixels=self.min_pixels, max_pixels=budget)

    def _render(self, item: MultimodalInput, text: str) -> str:
        """The conversation in the checkpoint's own template, one placeholder a visual."""
        content: list[dict[str, str]] = [{"type": "video"}] if item.video else []
        content += [{"type": "image"}] * len(item.images)
        if text:
            content.append({"type": "text", "text": self._neutral(text)})
        if not content:
            content.append({"type": "text", "text": "NULL"})  # as in the reference
        instruction = close_sentence(
            self.instruction if item.instruction is None else item.instruction
        )
        system = [{"type": "text", "text": self._neutral(instruction)}]
        conversation = [
            {"role": "system", "content": system},
            {"role": "user", "content": content},
        ]
        rendered = self.processor.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True
        )
        return str(rendered)

    def _token_ids(
        self, item: MultimodalInput, text: str, visuals: tuple[np.ndarray, ...]
    ) -> np.ndarray:
        """int64[tokens], each placeholder repeated for its visual tokens."""
        rendered = self._render(item, text)
        if item.video:
            # Some templates wrap the video in start and end tokens; each step has its own.
            rendered = rendered.replace(self._frame, self.processor.video_token)
            rendered = rendered.replace(
                self.processor.video_token, self._timed_frames(item.video), 1
            )
        ids = np.array(self.tokenizer(rendered)["input_ids"] + self._append, dtype=np.int64)
        is_visual = (ids == self.image_id) | (ids == self.video_id)
        repeats = np.ones(len(ids), dtype=np.int64)
        counts = [tokens for visual in visuals for tokens in visual_tokens(visual)]
        if int(is_visual.sum()) != len(counts):
            raise InvalidInput("the checkpoint's chat template does not show every image")
        repeats[is_visual] = counts
        return np.repeat(ids, repeats)

    def _timed_frames(self, video: Video) -> str:
        """One placeholder for each pair of frames behind its mean time, in seconds."""
        count = len(video.frames)
        times = [min(index, count - 1) / video.fps for index in range(count + count % 2)]
        return "".join(
            f"<{(first + second) / 2:.1f} seconds>{self._frame}"
            for first, second in zip(times[::2], times[1::2], strict=True)
        )

    def _cut(
        self, item: MultimodalInput, visuals: tuple[np.ndarray, ...], excess: int
    ) -> np.ndarray:
        """Token ids with the end of the text cut; template and image tokens stay whole."""
        offsets = self.tokenizer(item.text, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        keep = len(offsets)
        while excess > 0:
            keep -= excess
            if keep <= 0:
                raise InvalidInput(
                    f"the instruction and the images alone exceed {self.max_tokens} tokens: use "
                    "fewer or smaller images, or a shorter instruction"
                )
            # A cut can fall apart into more tokens than it had inside the longer text.
            ids = self._token_ids(item, item.text[: offsets[keep - 1][1]], visuals)
            excess = len(ids) - self.max_tokens
        return ids

    def _neutral(self, text: str) -> str:
        return self._special.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


def close_sentence(instruction: str) -> str:
    """The instruction with a final full stop where it has no punctuation, as in the reference."""
    stripped = instruction.strip()
    if stripped and not unicodedata.category(stripped[-1]).startswith("P"):
        stripped += "."
    return stripped


def visual_tokens(visual: np.ndarray) -> list[int]:
    """Visual tokens of each step of uint8[frames, height, width, 3]: two frames of a video."""
    frames, height, width = visual.shape[:3]
    steps = max(1, frames // FRAMES_PER_STEP)
    return [height * width // (FACTOR_PX * FACTOR_PX)] * steps


def mrope_positions(is_visual: np.ndarray, visuals: tuple[np.ndarray, ...]) -> np.ndarray:
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
