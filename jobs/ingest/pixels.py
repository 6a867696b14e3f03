"""Pixels on their way from rendering to embedding, packed without loss.

Pages are mostly paper: LZ4 makes them some 20 times smaller in a millisecond, and they may travel
between machines (benchmarks/pixels.py).
"""

import math

import numpy as np
import pyarrow as pa

_CODEC = "lz4"


def pack_pixels(pixels: np.ndarray) -> bytes:
    """Pack uint8[height, width, 3]."""
    packed: bytes = pa.compress(pixels.tobytes(), codec=_CODEC, asbytes=True)
    return packed


def unpack_pixels(packed: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return the same pixels, read-only."""
    size = math.prod(shape)
    pixels = pa.decompress(packed, decompressed_size=size, codec=_CODEC, asbytes=True)
    return np.frombuffer(pixels, np.uint8).reshape(shape)
