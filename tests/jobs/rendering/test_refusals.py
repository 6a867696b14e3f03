"""What attackers send, and what is too large."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.rendering.client import Renderer, RenderLimits
from tests.support.documents import (
    ENGLISH,
    a_document,
    make_bomb,
    make_encrypted,
    make_garbage,
    make_half_a_png,
    make_html,
    make_narrow,
    make_pdf,
    make_pdf_with_bomb,
    make_png,
    make_svg,
    make_truncated,
    make_unknown,
    make_without_pages,
    save,
)
from tests.support.rendering import MIB, TARGET, refusal


@pytest.mark.parametrize(
    ("make", "name", "reason", "skipped"),
    [
        (make_encrypted, "a.pdf", "encrypted", True),
        (Path.touch, "a.pdf", "empty", True),
        (make_without_pages, "a.pdf", "no_pages", True),
        (make_html, "a.pdf", "mislabelled", True),
        (make_svg, "a.pdf", "mislabelled", True),
        (make_png, "a.pdf", "mislabelled", True),
        (make_pdf, "a.png", "mislabelled", True),
        (make_html, "a.png", "mislabelled", True),
        (make_pdf, "a.docx", "unsupported", True),
        (Path.mkdir, "a.pdf", "unreadable", False),
        (lambda path: os.mkfifo(path), "a.pdf", "unsupported", True),
        (lambda path: None, "a.pdf", "unreadable", False),
        (make_truncated, "a.pdf", "corrupt", False),
        (make_garbage, "a.pdf", "corrupt", False),
        (make_unknown, "a.pdf", "corrupt", False),
        (make_unknown, "a.png", "corrupt", False),
    ],
)
def test_a_document_that_is_refused(
    renderer: Renderer,
    good: str,
    tmp_path: Path,
    make: Callable[[Path], object],
    name: str,
    reason: str,
    skipped: bool,
) -> None:
    make(tmp_path / name)
    error = refusal(lambda: renderer.check(str(tmp_path / name)))
    assert (error.reason, error.skipped) == (reason, skipped)
    assert renderer.check(good).pages == 1


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (make_narrow, "a.pdf", "too_narrow"),
        (make_half_a_png, "a.png", "corrupt"),
        (make_bomb, "a.png", "too_many_pixels"),
        (make_pdf_with_bomb, "a.pdf", "too_many_pixels"),
    ],
)
def test_a_page_that_is_refused(
    renderer: Renderer,
    good: str,
    tmp_path: Path,
    make: Callable[[Path], object],
    name: str,
    reason: str,
) -> None:
    make(tmp_path / name)
    assert renderer.check(str(tmp_path / name)).pages == 1
    error = refusal(lambda: renderer.render(str(tmp_path / name), 1, TARGET))
    assert (error.reason, error.skipped) == (reason, False)
    assert renderer.render(good, 1, TARGET).text == ENGLISH


def test_limits_of_bytes_and_pages(good: str, tmp_path: Path) -> None:
    three = save(a_document("1", "2", "3"), tmp_path / "three.pdf")
    large = tmp_path / "large.pdf"
    large.write_bytes(bytes(MIB + 1))
    with Renderer(RenderLimits(max_document_bytes=MIB, max_pages=2)) as renderer:
        for path, reason in ((str(large), "too_large"), (three, "too_many_pages")):
            error = refusal(lambda path=path: renderer.check(path))  # type: ignore[misc]
            assert (error.reason, error.skipped) == (reason, True)
        assert renderer.check(good).pages == 1
