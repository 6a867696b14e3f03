"""Vectors as a collection stores them: float32 outside, float16 or int8 inside where it says so.

Scores are cosines, so a vector may be scaled: as int8 its largest component becomes ±127.
"""

from typing import Any

import numpy as np
from pymilvus import DataType

INT8_MAX = 127


def to_stored(vector: Any, kind: Any) -> Any:
    """Return a vector float[dimension] as a field of this type takes it."""
    if kind == DataType.FLOAT16_VECTOR:
        return np.asarray(vector, np.float16)
    if kind == DataType.INT8_VECTOR:
        wide = np.asarray(vector, np.float32)
        largest = float(np.abs(wide).max(initial=0.0))
        return np.rint(wide * (INT8_MAX / (largest or 1.0))).astype(np.int8)
    return vector


def from_stored(value: Any, kind: Any) -> Any:
    """Return the same vector as float32, from what Milvus answers: bytes of a narrow type."""
    if kind == DataType.FLOAT16_VECTOR:
        narrow = np.frombuffer(_bytes(value), np.float16)
        return narrow.astype(np.float32)
    if kind == DataType.INT8_VECTOR:
        narrow = np.frombuffer(_bytes(value), np.int8)
        return narrow.astype(np.float32) / INT8_MAX
    return value


def _bytes(value: Any) -> bytes:
    """Return the bytes of a vector, which pymilvus may have put into a list of one."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return value.tobytes() if isinstance(value, np.ndarray) else bytes(value)
