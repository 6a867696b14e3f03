"""Pages that people have, rendered through the real process."""

import io
import os
from dataclasses import asdict
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pymupdf
import pytest
from PIL import Image

from jobs.rendering.client import DocumentInfo, Renderer, RenderLimits, RenderTarget
from jobs.rendering.process import OpenDocument, answer
from jobs.rendering.readers import PdfPage, clean_text
from models.images import grid_size
from models.qwen3_vl.visuals import VisualBudget
from models.registry import registry
from tests.support.documents import ENGLISH, JAPANESE, a_document, save
from tests.support.rendering import BLUE, GREEN, MIB, RED, TARGET, WHITE, assert_on_grid, is_near


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


@pytest.mark.parametrize("size", [(595, 842), (842, 595), (612, 792)], ids=["A4", "wide", "letter"])
def test_a_page_that_is_kept_as_large_as_the_model_sees_it_is_drawn_once(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """What people and the reranker get is then what the embedder sees: nothing is resized again."""
    path = save(a_document(ENGLISH, width=size[0], height=size[1]), tmp_path / "page.pdf")
    reranker = registry.find_spec("qwen3-vl-reranker-2b", "reranker")
    drawn: list[tuple[int, int]] = []
    draw = PdfPage.draw

    def counting(self: PdfPage, width: int, height: int) -> np.ndarray:
        drawn.append((width, height))
        return draw(self, width, height)

    target = RenderTarget(reranker.min_pixels, reranker.max_pixels, keep_pixels=MIB)
    with patch.object(PdfPage, "draw", counting):
        document = OpenDocument(RenderLimits())
        request = {"call": "page", "path": str(path), "page": 1, "timeout_s": 20}
        header, (pixels, jpeg, *_) = answer(request | {"target": asdict(target)}, document)
    assert drawn == [(header["width"], header["height"])]
    budget = VisualBudget(reranker.min_pixels, reranker.max_pixels, reranker.max_tokens)
    grid = budget.grid(bytes(jpeg), budget.room(1))
    assert grid.shape == (header["height"], header["width"], 3)
    assert Image.open(io.BytesIO(jpeg)).size == (header["width"], header["height"])
    assert len(pixels) == grid.size


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
