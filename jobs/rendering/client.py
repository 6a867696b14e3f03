"""Open, check and render documents in a process that may be killed.

This side parses nothing of a document: it sends paths to `jobs.rendering.process` and receives
plain pixels, JPEG bytes and text. Whatever a document does to that process, the next call works.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Literal

import numpy as np

from cluster.environment import child_environment
from cluster.errors import QuireError, UnreadableDocument
from cluster.settings import Settings
from jobs.rendering.frames import Header, read_frame, write_frame

START_TIMEOUT_S = 120.0  # imports, on a machine that may be busy
CALLS_PER_PROCESS = 2000  # then a fresh one, so that leaks and fragments never add up to the limit
STDERR_TAIL_BYTES = 400
OTHERS_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MAX_KILLS = 10  # from outside, of one page: they are not the page's doing
LARGE_SHARE = 0.5  # of the memory it may have: who is killed with more is killed for that


@dataclass(frozen=True)
class _End:
    """How a process ended: its exit status, the last it wrote to stderr, the most memory it had."""

    status: int
    words: str
    peak_bytes: int


class _KilledFromOutside(Exception):
    """Somebody else ended the process, whatever the document."""


class RendererUnavailable(QuireError):
    """The rendering process does not start, whatever the document."""


@dataclass(frozen=True)
class RenderLimits:
    """What one document may cost. `max_page_pixels` is of one image or one rendering, decoded."""

    page_timeout_s: float = 25.0
    document_timeout_s: float = 600.0
    memory_bytes: int = 2 * 2**30
    max_document_bytes: int = 2 * 2**30
    max_pages: int = 50_000
    max_page_pixels: int = 100_000_000

    @classmethod
    def from_settings(cls, settings: Settings) -> "RenderLimits":
        return cls(
            page_timeout_s=settings.page_timeout_s,
            document_timeout_s=settings.document_timeout_s,
            memory_bytes=settings.render_memory_bytes,
            max_document_bytes=settings.max_document_bytes,
            max_pages=settings.max_document_pages,
            max_page_pixels=settings.max_image_pixels,
        )


@dataclass(frozen=True)
class RenderTarget:
    """What to make of a page: pixel budgets, OCR, and the scale that is not exceeded.

    `keep_pixels` is the budget of the page image kept for people; with 0, or where the model's own
    rendering is as large, that same rendering is kept. `ocr_languages` as Tesseract writes them.
    `scan`: also the page as OCR gets it.
    """

    min_pixels: int
    max_pixels: int
    keep_pixels: int = 0
    ocr: bool = False
    ocr_languages: str = "eng"
    scan: bool = False
    max_dpi: int = 200


@dataclass(frozen=True)
class DocumentInfo:
    """What is known of a document before any page is rendered."""

    kind: Literal["pdf", "image"]
    pages: int
    title: str


@dataclass(frozen=True)
class RenderedPage:
    """One page: `pixels` uint8[height, width, 3] on the patch grid, a JPEG for people, its text.

    `scan` is a JPEG of the page as OCR gets it, where that was wanted. `words` are those of the
    text layer with their places, as cluster.pages.words writes them. `ocr` is true where the text
    was recognised rather than stored; `ocr_error` says why recognition gave nothing, and is empty
    otherwise.
    """

    page: int
    pixels: np.ndarray
    jpeg: bytes
    words: bytes
    scan: bytes
    jpeg_width: int
    jpeg_height: int
    text: str
    ocr: bool
    ocr_error: str
    render_s: float
    ocr_s: float


class Renderer:
    """One rendering process: started when first needed, replaced when it dies or is killed.

    Not thread-safe. Close it, or use it in a `with` block.
    """

    def __init__(self, limits: RenderLimits) -> None:
        self.limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes]  # of the process, as long as there is one
        self._path = ""
        self._spent_s = 0.0
        self._calls = 0

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Return the process id of the rendering process, while there is one."""
        return self._process.pid if self._process else None

    def check(self, path: str) -> DocumentInfo:
        """Find a document's kind, pages and title. Raises UnreadableDocument."""
        header, _ = self._call({"call": "check", "path": path}, path, self.limits.page_timeout_s)
        try:
            kind: Literal["pdf", "image"] = "image" if header["kind"] == "image" else "pdf"
            return DocumentInfo(kind, int(header["pages"]), str(header["title"]))
        except (KeyError, TypeError, ValueError) as error:
            raise self._nonsense(path) from error

    def start_shard(self) -> None:
        """Restart the clock of `document_timeout_s`. It also starts with every other path."""
        self._path = ""

    def render(self, path: str, page: int, target: RenderTarget) -> RenderedPage:
        """Render one page (from 1). Raises UnreadableDocument for this page only."""
        if path != self._path:
            self._path, self._spent_s = path, 0.0
        left_s = self.limits.document_timeout_s - self._spent_s
        if left_s <= 0:
            raise UnreadableDocument(
                "timeout",
                f"the pages of this document took over {self.limits.document_timeout_s:g} s "
                "together: raise document_timeout_s, or split the document",
            )
        most = self.limits.max_page_pixels
        target = replace(
            target,
            max_pixels=min(target.max_pixels, most),
            keep_pixels=min(target.keep_pixels, most),
        )
        request = {"call": "render", "path": path, "page": page, "target": asdict(target)}
        started = time.monotonic()
        try:
            header, body = self._call(request, path, min(self.limits.page_timeout_s, left_s))
            return _rendered_page(page, header, body)
        except (KeyError, TypeError, ValueError) as error:
            raise self._nonsense(path) from error
        finally:
            self._spent_s += time.monotonic() - started

    def close(self) -> None:
        """End the rendering process and all it started. The next call starts a new one."""
        self._end()

    def _end(self) -> _End:
        """Kill and reap the process; tells how it ended."""
        process, self._process, self._calls = self._process, None, 0
        if process is None:
            return _End(0, "", 0)
        # Not yet waited for, so the id is still ours even where the process is already dead; an
        # OCR process that outlived it is in the same group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # or it would be waited for again
        with self._stderr as stderr:
            return _End(process.returncode, _last_words(stderr), usage.ru_maxrss * 1024)

    def _call(self, request: Header, path: str, timeout_s: float) -> tuple[Header, bytearray]:
        """Ask the process; again where somebody else ends it meanwhile."""
        for _ in range(MAX_KILLS):
            with suppress(_KilledFromOutside):
                return self._call_once(request, path, timeout_s)
        raise UnreadableDocument(
            "killed", f"its rendering process was killed {MAX_KILLS} times from outside"
        )

    def _call_once(self, request: Header, path: str, timeout_s: float) -> tuple[Header, bytearray]:
        if self._calls >= CALLS_PER_PROCESS:
            self._end()
        self._calls += 1
        request |= {"path": str(Path(path).absolute()), "timeout_s": timeout_s}
        try:
            header, body = read_frame(self._send(request), timeout_s=timeout_s)
        except TimeoutError as error:
            self._end()
            raise _too_slow(timeout_s) from error
        except EOFError as error:
            raise self._death(self._end(), timeout_s) from error
        except ValueError as error:
            raise self._nonsense(path) from error
        if "reason" not in header:
            return header, body
        if header["reason"] == "out_of_memory":
            self._end()  # what is left of its memory serves no other page
        raise UnreadableDocument(
            str(header["reason"]), str(header.get("message")), skipped=header.get("skipped") is True
        )

    def _send(self, request: Header) -> int:
        """Send a request; returns where the answer is read.

        A process that died while idle is replaced, for no document killed it.
        """
        try:
            process = self._started()
            write_frame(process.stdin, request)  # type: ignore[arg-type]
        except BrokenPipeError:
            self._end()
            process = self._started()
            write_frame(process.stdin, request)  # type: ignore[arg-type]
        return process.stdout.fileno()  # type: ignore[union-attr]

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - _end() closes it
        # One thread each: the parallelism is in the number of renderers. From the folder of our own
        # packages, so that a folder named jobs/ where the user stands is never imported.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jobs.rendering.process", json.dumps(asdict(self.limits))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            cwd=Path(__file__).resolve().parents[2],
            env=child_environment(OMP_THREAD_LIMIT="1", OPENBLAS_NUM_THREADS="1"),
        )
        try:
            read_frame(self._process.stdout.fileno(), timeout_s=START_TIMEOUT_S)  # type: ignore[union-attr]
        except (EOFError, TimeoutError, ValueError) as error:
            end = self._end()
            if end.status == -signal.SIGKILL:
                raise _KilledFromOutside from error
            raise RendererUnavailable(
                f"the rendering process does not start; check the installation: {end.words}"
            ) from error
        return self._process

    def _death(self, end: _End, timeout_s: float) -> Exception:
        status, words = end.status, end.words
        if status == -signal.SIGALRM:
            return _too_slow(timeout_s)
        is_killed = status == -signal.SIGKILL
        is_large = end.peak_bytes > LARGE_SHARE * self.limits.memory_bytes
        if (is_killed and not is_large) or -status in OTHERS_SIGNALS:
            return _KilledFromOutside()
        if is_killed or "bad_alloc" in words or "MemoryError" in words:
            return UnreadableDocument(
                "out_of_memory",
                f"it needs over {self.limits.memory_bytes:,} bytes: raise render_memory_bytes",
            )
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return UnreadableDocument(
            "crashed",
            f"it ended the rendering process ({how}): print it to a new PDF. {words}".rstrip(),
        )

    def _nonsense(self, path: str) -> UnreadableDocument:
        self._end()
        return UnreadableDocument(
            "crashed", f"rendering {path} gave an answer that makes no sense: treat it as hostile"
        )


def _too_slow(timeout_s: float) -> UnreadableDocument:
    return UnreadableDocument(
        "timeout",
        f"it took over {timeout_s:g} s: raise page_timeout_s, or print the page to a new PDF",
    )


def _last_words(stderr: IO[bytes]) -> str:
    """Return the end of what a process wrote to its standard error, as one line."""
    size = stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, size - STDERR_TAIL_BYTES))
    return " ".join(stderr.read().decode("utf-8", "replace").split())


def _rendered_page(page: int, header: Header, body: bytearray) -> RenderedPage:
    """A reply as a page. Raises KeyError, TypeError or ValueError where it does not add up."""
    shape = (int(header["height"]), int(header["width"]), 3)
    size = math.prod(shape)
    end = size + int(header["jpeg_bytes"])
    words_end = end + int(header["words_bytes"])
    if min(shape) <= 0 or not size < end < words_end <= len(body):
        raise ValueError(f"{len(body)} bytes for {shape}")
    return RenderedPage(
        page=page,
        pixels=np.frombuffer(body, np.uint8, count=size).reshape(shape),
        jpeg=bytes(memoryview(body)[size:end]),
        words=bytes(memoryview(body)[end:words_end]),
        scan=bytes(memoryview(body)[words_end:]),
        jpeg_width=int(header["jpeg_width"]),
        jpeg_height=int(header["jpeg_height"]),
        text=str(header["text"]),
        ocr=header["ocr"] is True,
        ocr_error=str(header["ocr_error"]),
        render_s=float(header["render_s"]),
        ocr_s=float(header["ocr_s"]),
    )
