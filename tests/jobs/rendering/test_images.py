"""Image files as documents."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.rendering.client import DocumentInfo, Renderer
from tests.support.rendering import BLUE, RED, TARGET, WHITE, is_near, refusal


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
