"""Image sizes on the patch grid, and decoding that checks before it spends memory."""

import io
import math

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cluster.errors import InvalidInput

PATCH_PX = 16
MERGE = 2
FACTOR_PX = PATCH_PX * MERGE  # one visual token covers 32 × 32 px
MAX_ASPECT_RATIO = 200
IMAGE_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP")
UNREADABLE = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
)


def grid_size(width: float, height: float, *, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Return the size on the patch grid nearest to `width` × `height` within the pixel budget.

    Units: px, or any unit for which 1 unit = 1 px at scale 1. Returns (width, height), multiples
    of 32 px. Raises InvalidInput for an aspect ratio over 200. Source: `smart_resize` of the
    Qwen-VL reference (qwen_vl_utils).
    """
    if min(width, height) <= 0 or max(width, height) / min(width, height) > MAX_ASPECT_RATIO:
        raise InvalidInput(
            f"an image of {width:g}×{height:g} is too narrow: the sides may differ by a factor of "
            f"{MAX_ASPECT_RATIO} at most; crop it"
        )
    grid_w = max(FACTOR_PX, round(width / FACTOR_PX) * FACTOR_PX)
    grid_h = max(FACTOR_PX, round(height / FACTOR_PX) * FACTOR_PX)
    if grid_w * grid_h > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        grid_w = max(FACTOR_PX, math.floor(width / shrink / FACTOR_PX) * FACTOR_PX)
        grid_h = max(FACTOR_PX, math.floor(height / shrink / FACTOR_PX) * FACTOR_PX)
    elif grid_w * grid_h < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        grid_w = math.ceil(width * grow / FACTOR_PX) * FACTOR_PX
        grid_h = math.ceil(height * grow / FACTOR_PX) * FACTOR_PX
    return grid_w, grid_h


def blank_page(max_pixels: int) -> np.ndarray:
    """Return a white A4 page of nearly `max_pixels` px on the grid, uint8[height, width, 3]."""
    width, height = grid_size(21_000, 29_700, min_pixels=FACTOR_PX**2, max_pixels=max_pixels)
    return np.full((height, width, 3), 255, np.uint8)


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in px of an image file, from its header alone. Raises InvalidInput."""
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            return image.size
    except UNREADABLE as error:
        raise InvalidInput(f"this is not a readable PNG, JPEG, TIFF or WebP: {error}") from error


def decode_image(data: bytes, *, max_pixels: int) -> Image.Image:
    """Decode one PNG, JPEG, TIFF or WebP into RGB, upright.

    `max_pixels` is checked on the header, before any pixel is decoded. Raises InvalidInput.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
        if image.width * image.height > max_pixels:
            raise InvalidInput(
                f"the image has {image.width}×{image.height} px; the limit is {max_pixels:,} px: "
                "scale it down"
            )
        return upright_on_white(image)
    except UNREADABLE as error:
        raise InvalidInput(f"this is not a readable PNG, JPEG, TIFF or WebP: {error}") from error


def upright_on_white(image: Image.Image) -> Image.Image:
    """RGB of any picture, turned as its EXIF says; transparent parts show white paper."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits a channel become 8
        deep = np.asarray(upright.convert("I"))
        shallow = (deep >> 8 if deep.max() > 255 else deep).astype(np.uint8)
        return Image.fromarray(shallow).convert("RGB")
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    seen = upright.convert("RGBA")
    paper = Image.new("RGBA", seen.size, "white")
    return Image.alpha_composite(paper, seen).convert("RGB")


def to_grid(image: Image.Image, *, min_pixels: int, max_pixels: int) -> np.ndarray:
    """RGB image → uint8[height, width, 3] on the patch grid (bicubic, no-op where it fits)."""
    size = grid_size(image.width, image.height, min_pixels=min_pixels, max_pixels=max_pixels)
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if rgb.size != size:
        rgb = rgb.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(rgb)
