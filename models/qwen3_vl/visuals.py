"""Images and videos of one input → uint8 pixels on the patch grid, within a budget."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cluster.errors import InvalidInput
from models.images import FACTOR_PX, decode_image, to_grid
from models.inputs import MAX_IMAGE_PIXELS, Picture, Video

TEXT_RESERVE_TOKENS = 256  # room kept for the template when many images share the input
VIDEO_BUDGET_IMAGES = 10  # a video may cost as much as this many images (reference: 10 frames)
FRAMES_PER_STEP = 2  # the vision tower reads two frames at a time


@dataclass(frozen=True)
class VisualBudget:
    """What the images of one input may cost; pixels in px, one visual token covers 32 × 32."""

    min_pixels: int
    max_pixels: int
    max_tokens: int

    def grids(self, images: tuple[Picture, ...], video: Video | None = None) -> list[np.ndarray]:
        """The video, then the images, each uint8[frames, height, width, 3] on the patch grid.

        Raises InvalidInput where they cannot fit or cannot be decoded.
        """
        room = self.room(len(images) + (1 if video else 0))
        grids = [self.grid(image, room)[None] for image in images]
        return [self._video(video, room), *grids] if video else grids  # as the template has them

    def room(self, sources: int) -> int:
        """Pixels for each of `sources` images that share one input."""
        tokens = (self.max_tokens - TEXT_RESERVE_TOKENS) // max(1, sources)
        return tokens * FACTOR_PX * FACTOR_PX

    def grid(self, image: Picture, room: int) -> np.ndarray:
        """Put one image on the patch grid, uint8[height, width, 3]. Raises InvalidInput."""
        budget = min(self.max_pixels, room)
        if budget < self.min_pixels:
            raise InvalidInput(
                f"too many images or frames for an input of {self.max_tokens} tokens: split it"
            )
        if isinstance(image, bytes):
            image = decode_image(image, max_pixels=MAX_IMAGE_PIXELS)
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

    def _video(self, video: Video, room: int) -> np.ndarray:
        if not video.frames or video.fps <= 0:
            raise InvalidInput("a video needs at least one frame and an fps above 0")
        steps = -(-len(video.frames) // FRAMES_PER_STEP)
        share = min(VIDEO_BUDGET_IMAGES * self.max_pixels, room) // steps
        frames = [self.grid(frame, share) for frame in video.frames]
        if len({frame.shape for frame in frames}) > 1:
            raise InvalidInput("the frames of a video must have one size")
        frames += frames[-1:] * (-len(frames) % FRAMES_PER_STEP)
        return np.stack(frames)


def visual_tokens(visual: np.ndarray) -> list[int]:
    """Visual tokens of each step of uint8[frames, height, width, 3]: two frames of a video."""
    frames, height, width = visual.shape[:3]
    steps = max(1, frames // FRAMES_PER_STEP)
    return [height * width // (FACTOR_PX * FACTOR_PX)] * steps
