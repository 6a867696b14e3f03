"""Rendering through the real process, on real files: what people have and what attackers send."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pymupdf
import pytest
from PIL import Image

from cluster.errors import UnreadableDocument
from jobs.rendering.client import DocumentInfo, RenderedPage, Renderer, RenderLimits, RenderTarget
from jobs.rendering.readers import clean_text
from models.images import FACTOR_PX, grid_size
from tests.support.documents import (
    ENGLISH,
    JAPANESE,
    a_document,
    laughs,
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

MIB = 2**20
TARGET = RenderTarget(min_pixels=4096, max_pixels=600_000)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer(RenderLimits()) as shared:
        yield shared


@pytest.fixture
def good(tmp_path: Path) -> str:
    return save(a_document(ENGLISH), tmp_path / "good.pdf")


def refusal(call: Callable[[], object]) -> UnreadableDocument:
    with pytest.raises(UnreadableDocument) as caught:
        call()
    assert str(caught.value)
    return caught.value


def is_near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() < 40)


def assert_on_grid(page: RenderedPage, target: RenderTarget = TARGET) -> None:
    height, width, channels = page.pixels.shape
    assert channels == 3
    assert page.pixels.dtype == np.uint8
    assert width % FACTOR_PX == height % FACTOR_PX == 0
    assert width * height <= target.max_pixels
    kept = Image.open(io.BytesIO(page.jpeg))
    assert kept.size == (page.jpeg_width, page.jpeg_height)


# What people have


def test_text_pixels_and_title(renderer: Renderer, tmp_path: Path) -> None:
    document = a_document(ENGLISH, JAPANESE)
    document.set_metadata({"title": "  Copper 4711 "})
    path = save(document, tmp_path / "a.pdf")

    assert renderer.check(path) == DocumentInfo("pdf", 2, "Copper 4711")
    first, second = renderer.render(path, 1, TARGET), renderer.render(path, 2, TARGET)

    assert first.text == ENGLISH
    assert second.text == JAPANESE
    assert not first.ocr
    assert_on_grid(first)
    scale = 200 / 72
    assert first.pixels.shape[1::-1] == grid_size(
        595 * scale, 842 * scale, min_pixels=4096, max_pixels=600_000
    )
    assert first.pixels.min() < 60
    assert is_near(first.pixels[-1, -1], WHITE)
    assert (first.jpeg_width, first.jpeg_height) == first.pixels.shape[1::-1]


def test_title_is_the_file_name_where_none_is_stored(renderer: Renderer, good: str) -> None:
    assert renderer.check(good).title == "good"


def test_words_are_whole_and_form_fields_are_read(renderer: Renderer, tmp_path: Path) -> None:
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text((72, 72), "The final exam-\nple of an efficient ﬁlter")
    page.insert_text((72, 2000), "far below the paper")
    field = pymupdf.Widget()
    field.field_type, field.field_name = pymupdf.mupdf.PDF_WIDGET_TYPE_TEXT, "name"
    field.field_value, field.rect = "Ada Lovelace", pymupdf.Rect(72, 150, 300, 170)
    page.add_widget(field)

    text = renderer.render(save(document, tmp_path / "a.pdf"), 1, TARGET).text

    assert "example" in text
    assert "Ada Lovelace" in text
    assert "below" not in text


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("origin", [(0, 0), (-200, -100), (37.4, 911.7)])
def test_rotated_and_cropped_pages_fill_the_grid_exactly(
    renderer: Renderer, tmp_path: Path, rotation: int, origin: tuple[float, float]
) -> None:
    x, y = origin
    document = pymupdf.open()
    page = document.new_page()
    box = f"[{x} {y} {x + 500.3} {y + 700.9}]"  # a frame of 50 pt is cropped away
    document.xref_set_key(page.xref, "MediaBox", f"[{x - 50} {y - 50} {x + 551} {y + 751}]")
    document.xref_set_key(page.xref, "CropBox", box)
    contents = document.get_new_xref()
    document.update_object(contents, "<<>>")
    corners = [(RED, x, y + 650.9), (GREEN, x + 450.3, y + 650.9), (BLUE, x, y)]
    drawing = "".join(
        f"{r / 255} {g / 255} {b / 255} rg {left} {bottom} 50 50 re f "
        for (r, g, b), left, bottom in corners
    )
    document.update_stream(contents, drawing.encode())
    document.xref_set_key(page.xref, "Contents", f"{contents} 0 R")
    page.set_rotation(rotation)

    rendered = renderer.render(save(document, tmp_path / "a.pdf"), 1, TARGET)

    assert_on_grid(rendered)
    upright = np.rot90(rendered.pixels, k=rotation // 90)  # counter-clockwise undoes /Rotate
    assert is_near(upright[1, 1], RED)
    assert is_near(upright[1, -2], GREEN)
    assert is_near(upright[-2, 1], BLUE)
    assert is_near(upright[-2, -2], WHITE)


def test_a_receipt_is_not_blown_up(renderer: Renderer, tmp_path: Path) -> None:
    path = save(a_document("Tea 2.40", width=160, height=230), tmp_path / "receipt.pdf")

    page = renderer.render(path, 1, RenderTarget(4096, 4_000_000, keep_pixels=MIB, max_dpi=200))

    assert page.pixels.shape == (640, 448, 3)  # 200 dpi is 444×639
    assert page.jpeg_width <= 448


def test_a_huge_page_costs_what_its_grid_costs(renderer: Renderer, tmp_path: Path) -> None:
    path = save(a_document(ENGLISH, width=14_400, height=14_400), tmp_path / "huge.pdf")

    page = renderer.render(path, 1, TARGET)

    assert page.pixels.shape == (768, 768, 3)
    assert page.render_s < 2


def test_a_larger_image_is_kept_for_people(renderer: Renderer, good: str) -> None:
    small = RenderTarget(4096, 65_536, keep_pixels=MIB)

    page = renderer.render(good, 1, small)

    assert_on_grid(page, small)
    assert 0.98 * MIB < page.jpeg_width * page.jpeg_height < 1.02 * MIB
    assert page.jpeg_height / page.jpeg_width == pytest.approx(842 / 595, rel=0.01)


def test_an_owner_password_alone_locks_nothing(renderer: Renderer, tmp_path: Path) -> None:
    path = save(
        a_document(ENGLISH),
        tmp_path / "owner.pdf",
        encryption=pymupdf.mupdf.PDF_ENCRYPT_AES_256,
        owner_pw="secret",
    )
    assert renderer.render(path, 1, TARGET).text == ENGLISH


def test_text_is_fit_for_any_store() -> None:
    assert clean_text("\ta\0b\ud800c\x07\nd\n ") == "abc\nd"


def test_a_changed_file_is_opened_anew(renderer: Renderer, tmp_path: Path) -> None:
    path = save(a_document("before"), tmp_path / "a.pdf")
    assert renderer.render(path, 1, TARGET).text == "before"
    save(a_document("after it was changed"), tmp_path / "a.pdf")
    assert renderer.render(path, 1, TARGET).text == "after it was changed"


def test_a_name_that_is_not_utf8(renderer: Renderer, good: str, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.pdf")
    Path(good).rename(odd)
    assert renderer.check(odd).title == "caf"
    assert renderer.render(odd, 1, TARGET).text == ENGLISH


# Image files


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".tif", ".tiff", ".webp"])
def test_image_files_are_documents(renderer: Renderer, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    Image.new("RGB", (300, 200), BLUE).save(path)

    assert renderer.check(str(path)) == DocumentInfo("image", 1, "photo")
    page = renderer.render(str(path), 1, TARGET)

    assert page.pixels.shape == (192, 288, 3)
    assert is_near(page.pixels[100, 100], BLUE)


def test_every_page_of_a_tiff(renderer: Renderer, tmp_path: Path) -> None:
    path = str(tmp_path / "fax.tif")
    pages = [Image.new("RGB", (640, 320 + 32 * i), (80 * i, 0, 0)) for i in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])

    assert renderer.check(path).pages == 3
    for number in (3, 1, 2):
        page = renderer.render(path, number, TARGET)
        assert page.pixels.shape == (288 + 32 * number, 640, 3)
        assert page.pixels[5, 5, 0] == 80 * (number - 1)
    assert refusal(lambda: renderer.render(path, 4, TARGET)).reason == "corrupt"


def test_pictures_are_upright_on_white_and_of_8_bits(renderer: Renderer, tmp_path: Path) -> None:
    turned = Image.new("RGB", (320, 640), WHITE)
    turned.paste(RED, (0, 0, 320, 40))
    orientation = Image.Exif()
    orientation[0x0112] = 6  # shown turned clockwise by 90°
    turned.save(tmp_path / "turned.jpg", exif=orientation, quality=95)
    Image.new("RGBA", (320, 320), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    deep = np.full((320, 320), 40_000, np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")

    shown = renderer.render(str(tmp_path / "turned.jpg"), 1, TARGET).pixels
    assert shown.shape == (320, 640, 3)
    assert is_near(shown[160, 630], RED)
    assert renderer.render(str(tmp_path / "clear.png"), 1, TARGET).pixels.min() == 255
    assert renderer.render(str(tmp_path / "deep.png"), 1, TARGET).pixels[0, 0, 0] == 40_000 // 256


# Recognised text


def test_scanned_pages_get_text(renderer: Renderer, tmp_path: Path) -> None:
    source = a_document(ENGLISH, JAPANESE)
    scans = pymupdf.open()
    for number in range(source.page_count):
        scan = scans.new_page(width=595, height=842)
        picture = source[number].get_pixmap(dpi=150, colorspace=pymupdf.csGRAY)
        scan.insert_image(scan.rect, pixmap=picture)
    scans.new_page()  # blank: nothing to recognise
    path = save(scans, tmp_path / "scan.pdf")
    target = RenderTarget(4096, 600_000, ocr=True, ocr_languages="eng+jpn+kor+xxx")

    english, japanese, blank = (renderer.render(path, number, target) for number in (1, 2, 3))

    assert english.ocr
    assert "copper pipe" in english.text
    assert japanese.ocr
    assert "支払期限" in japanese.text
    assert english.ocr_s > 0
    assert (blank.ocr, blank.text, blank.ocr_error, blank.ocr_s) == (False, "", "", 0)
    assert renderer.render(path, 1, TARGET).text == ""
    source[0].get_pixmap(dpi=150).save(tmp_path / "scan.png")
    assert "copper pipe" in renderer.render(str(tmp_path / "scan.png"), 1, target).text


def test_a_page_survives_failing_ocr(tmp_path: Path) -> None:
    path = str(tmp_path / "noise.png")
    noise = np.random.default_rng(7).integers(0, 256, (3000, 3000), np.uint8)
    Image.fromarray(noise).save(path)
    unknown = RenderTarget(4096, 65_536, ocr=True, ocr_languages="xxx")
    known = RenderTarget(4096, 65_536, ocr=True, ocr_languages="eng+jpn")

    with Renderer(RenderLimits(page_timeout_s=3)) as renderer:
        missing = renderer.render(path, 1, unknown)
        late = renderer.render(path, 1, known)

    assert (missing.text, missing.ocr) == ("", False)
    assert "xxx" in missing.ocr_error
    assert late.ocr_error.startswith("OCR took over")
    assert_on_grid(late)


# What cannot be read, each with the next good file after it


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


# What hangs, swells or kills


def test_a_page_that_hangs(good: str, tmp_path: Path) -> None:
    endless = laughs(tmp_path / "laughs.pdf")
    with Renderer(RenderLimits(page_timeout_s=1)) as renderer:
        assert renderer.check(endless).pages == 1
        first = renderer.pid
        error = refusal(lambda: renderer.render(endless, 1, TARGET))
        assert (error.reason, error.skipped) == ("timeout", False)
        assert not is_running(first)
        assert renderer.render(good, 1, TARGET).text == ENGLISH
        assert renderer.pid != first


def test_a_document_of_slow_pages(good: str, tmp_path: Path) -> None:
    endless = laughs(tmp_path / "laughs.pdf")
    with Renderer(RenderLimits(page_timeout_s=1, document_timeout_s=1.5)) as renderer:
        for _ in range(2):  # the second is cut short, what is left is not tried
            assert refusal(lambda: renderer.render(endless, 1, TARGET)).reason == "timeout"
        assert "together" in str(refusal(lambda: renderer.render(endless, 1, TARGET)))
        renderer.start_shard()
        assert "together" not in str(refusal(lambda: renderer.render(endless, 1, TARGET)))
        assert renderer.render(good, 1, TARGET).text == ENGLISH


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by RLIMIT_AS on Linux only")
def test_a_page_that_swells(good: str, tmp_path: Path) -> None:
    swelling = laughs(tmp_path / "laughs.pdf")
    with Renderer(RenderLimits(memory_bytes=64 * MIB)) as renderer:
        error = refusal(lambda: renderer.render(swelling, 1, TARGET))
        assert (error.reason, error.skipped) == ("out_of_memory", False)
        assert renderer.render(good, 1, TARGET).text == ENGLISH


def test_a_process_that_dies_at_work(good: str, tmp_path: Path) -> None:
    endless = laughs(tmp_path / "laughs.pdf")
    with Renderer(RenderLimits()) as renderer:
        renderer.check(endless)
        assert renderer.pid
        killer = threading.Timer(0.3, os.kill, (renderer.pid, signal.SIGSEGV))
        killer.start()
        error = refusal(lambda: renderer.render(endless, 1, TARGET))
        killer.join()
        assert (error.reason, error.skipped) == ("crashed", False)
        assert "SIGSEGV" in str(error)
        assert renderer.render(good, 1, TARGET).text == ENGLISH


def test_a_process_that_dies_idle_costs_no_page(good: str) -> None:
    with Renderer(RenderLimits()) as renderer:
        renderer.check(good)
        assert renderer.pid
        os.kill(renderer.pid, signal.SIGKILL)
        time.sleep(0.1)
        assert renderer.render(good, 1, TARGET).text == ENGLISH


def test_no_process_is_left_after_close(good: str) -> None:
    renderer = Renderer(RenderLimits())
    assert renderer.pid is None
    renderer.check(good)
    first = renderer.pid
    assert is_running(first)
    renderer.close()
    assert not is_running(first)
    assert renderer.check(good).pages == 1  # and it can be used again
    renderer.close()


@pytest.mark.parametrize("at_work", [False, True])
def test_no_process_survives_its_caller(good: str, tmp_path: Path, at_work: bool) -> None:
    path = laughs(tmp_path / "laughs.pdf") if at_work else good
    program = (
        "import sys; from jobs.rendering.client import *\n"
        "renderer = Renderer(RenderLimits(page_timeout_s=1.5))\n"
        f"renderer.check({path!r}); print(renderer.pid, flush=True)\n"
        f"renderer.render({path!r}, 1, RenderTarget(4096, 600_000)); sys.stdin.read()"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    ) as caller:
        assert caller.stdout
        pid = int(caller.stdout.readline())
        time.sleep(0.3)
        assert is_running(pid)
        caller.kill()
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(pid: int | None) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
