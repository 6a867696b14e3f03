"""Frames on a pipe: a JSON header and raw bytes, each with its length.

No pickle: one end has parsed hostile bytes, and the other must only ever receive data from it.
"""

import json
import os
import select
import struct
import time
from typing import Any, BinaryIO

LENGTHS = struct.Struct("!IQ")  # bytes of the header, bytes of the body
MAX_HEADER_BYTES = 64 * 2**20
MAX_BODY_BYTES = 2**30

Header = dict[str, Any]


def write_frame(stream: BinaryIO, header: Header, *bodies: bytes | memoryview) -> None:
    """Write one frame; the bodies arrive as one. Raises BrokenPipeError where nobody reads."""
    encoded = json.dumps(header).encode("ascii")
    stream.write(LENGTHS.pack(len(encoded), sum(len(body) for body in bodies)))
    stream.write(encoded)
    for body in bodies:
        stream.write(body)
    stream.flush()


def read_frame(fd: int, *, timeout_s: float | None = None) -> tuple[Header, bytearray]:
    """Read one frame from a file descriptor that nothing else reads.

    Raises EOFError where the other end has closed, TimeoutError after `timeout_s`, ValueError for
    bytes that are not a frame.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    header_bytes, body_bytes = LENGTHS.unpack(_read_exactly(fd, LENGTHS.size, deadline))
    if header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
        raise ValueError(f"a frame of {header_bytes} + {body_bytes} bytes")
    header = json.loads(_read_exactly(fd, header_bytes, deadline))
    if not isinstance(header, dict):
        raise ValueError("a frame whose header is not an object")
    return header, _read_exactly(fd, body_bytes, deadline)


def _read_exactly(fd: int, count: int, deadline: float | None) -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        if deadline is not None:
            _wait_until_readable(fd, deadline)
        got = os.readv(fd, [view])
        if got == 0:
            raise EOFError
        view = view[got:]
    return data


def _wait_until_readable(fd: int, deadline: float) -> None:
    poll = select.poll()  # unlike select(), it takes descriptors above 1023
    poll.register(fd, select.POLLIN)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError
