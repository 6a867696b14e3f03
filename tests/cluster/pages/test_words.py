"""Words and their places, as they are kept beside a page."""

import zlib
from pathlib import Path

import pytest

from cluster.errors import InvalidInput
from cluster.pages.words import PageWord, from_bytes, matched_words, to_bytes
from jobs.rendering.client import Renderer, RenderLimits, RenderTarget
from tests.support.documents import a_jpeg, a_pdf_of_places

TARGET = RenderTarget(min_pixels=1024, max_pixels=64 * 1024)


def test_words_are_kept_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(a_pdf_of_places({"zebra crossing": (0.1, 0.2), "焙煎中の火災": (0.5, 0.7)}))
    with Renderer(RenderLimits()) as renderer:
        words = from_bytes(renderer.render(str(path), 1, TARGET).words)
    assert [word.text for word in words] == ["zebra", "crossing", "焙煎中の火災"]
    left, top, right, bottom = words[0].box
    assert left == pytest.approx(0.1, abs=0.01)
    assert top < 0.2 < bottom + 0.01 and right < words[1].box[0]
    (zebra,) = matched_words(words, "Where is the ZEBRA?")
    assert zebra == words[0]
    (fire,) = matched_words(words, "火災")
    assert fire.text == "火災"
    assert fire.box[0] > words[2].box[0] + 0.6 * (words[2].box[2] - words[2].box[0])
    assert matched_words(words, "giraffe") == []


def test_a_picture_has_no_words(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(a_jpeg())
    with Renderer(RenderLimits()) as renderer:
        assert from_bytes(renderer.render(str(path), 1, TARGET).words) == []


@pytest.mark.parametrize(
    "data",
    [b"", b"words", zlib.compress(b"{}x"), zlib.compress(b'[["a", 1]]'), zlib.compress(b"[1]")],
)
def test_what_is_no_file_of_words_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="ingest again"):
        from_bytes(data)


def test_a_bomb_of_words_is_not_unpacked() -> None:
    with pytest.raises(InvalidInput):
        from_bytes(zlib.compress(b"[" + b" " * (64 * 2**20) + b"]"))


def test_words_survive_being_written() -> None:
    words = [PageWord("日本", (0.0, 0.25, 0.5, 1.0)), PageWord('"x', (0.1, 0.2, 0.3, 0.4))]
    assert from_bytes(to_bytes(words)) == words
