"""What models take: text, images, a video, or any mix; and what encoding makes of it.

Not covered: fetching images by URL or path, and decoding video files; callers hand over images.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cluster.errors import InvalidInput
from models.images import decode_image

Picture = bytes | Image.Image | np.ndarray


@dataclass(frozen=True)
class Video:
    """Frames that were sampled at `fps` frames a second, as images, oldest first."""

    frames: tuple[Picture, ...]
    fps: float = 2.0


@dataclass(frozen=True)
class MultimodalInput:
    """Text, images, a video, or any mix.

    Images are the bytes of a PNG, JPEG, TIFF or WebP file, or RGB: PIL or uint8[height, width, 3].
    `instruction` None takes the model's own.
    """

    text: str = ""
    images: tuple[Picture, ...] = ()
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


MAX_IMAGE_PIXELS = 100_000_000  # of an encoded image, checked before it is decoded


def to_image(picture: Picture) -> Image.Image:
    """Return a picture as PIL has it, decoded where it is a file. Raises InvalidInput."""
    if isinstance(picture, bytes):
        return decode_image(picture, max_pixels=MAX_IMAGE_PIXELS)
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
            raise InvalidInput(f"a page must be uint8[h, w, 3], not {picture.dtype}{picture.shape}")
        return Image.fromarray(picture)
    return picture
