"""Images that come with requests: data URLs, base64 or bytes, checked before anything is decoded.

No URL and no path is ever opened.
"""

import base64
import binascii
import io
import re

from PIL import Image

from cluster.errors import InvalidInput, TooLarge
from cluster.settings import Settings
from models.images import image_size

_DATA_URL = re.compile(r"data:image/(png|jpeg|jpg|webp|tiff);base64,", re.IGNORECASE)
MIN_WIDTH_PX = 16
JPEG_QUALITY = 88


def image_bytes(text: str, settings: Settings) -> bytes:
    """Return the file in a data URL or in bare base64. Raises InvalidInput or TooLarge."""
    if match := _DATA_URL.match(text):
        text = text[match.end() :]
    elif ":" in text[:64]:
        raise InvalidInput(
            "an image is a data URL (data:image/png;base64,…) or base64; no URL is fetched"
        )
    if len(text) > settings.max_query_image_bytes * 4 // 3 + 4:
        raise _too_heavy(settings)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"the image is not base64: {error}") from error
    return checked_image(data, settings)


def checked_image(data: bytes, settings: Settings) -> bytes:
    """Return the same bytes, once their header shows an image within the limits."""
    if len(data) > settings.max_query_image_bytes:
        raise _too_heavy(settings)
    width, height = image_size(data)
    max_pixels = settings.max_query_image_pixels
    if width * height > max_pixels:
        raise TooLarge(
            f"the image has {width}×{height} px; the limit is {max_pixels:,} px: scale it down"
        )
    return data


def _too_heavy(settings: Settings) -> TooLarge:
    return TooLarge(f"an image may have {settings.max_query_image_bytes:,} bytes: scale it down")


def narrowed(jpeg: bytes, width: int) -> bytes:
    """Return a kept page image at most `width` px wide; never enlarged."""
    image = Image.open(io.BytesIO(jpeg), formats=("JPEG",))
    if image.width <= width:
        return jpeg
    height = max(1, round(image.height * width / image.width))
    image.draft("RGB", (width, height))  # JPEG decodes to an eighth, a quarter or half for little
    out = io.BytesIO()
    small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    small.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()
