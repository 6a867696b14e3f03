"""Where documents and page images are, on disk and behind fsspec; decoding of query images."""

import io
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from cluster.core import Document
from cluster.errors import InvalidInput, NotFound
from cluster.pages.files import PageFiles
from cluster.sources import list_sources, local_copy
from cluster.text.snippets import snippet
from models.images import decode_image, grid_size

DOC_ID = "0123456789abcdef" * 2


@pytest.fixture
def bucket() -> Iterator[fsspec.AbstractFileSystem]:
    """An object store that lives in this process."""
    memory = fsspec.filesystem("memory")
    yield memory
    memory.rm("/", recursive=True)


def test_files_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.pdf", "a.PDF", "x/c.tiff", "x/notes.txt", "x/.hidden.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(*paths: str, pattern: str = "") -> list[str]:
        found = list_sources([str(tmp_path / path) for path in paths], pattern)
        return [str(Path(each).relative_to(tmp_path)) for each in found]

    assert names(".") == ["a.PDF", "b.pdf", "x/c.tiff"]
    assert names("b.pdf", ".") == ["b.pdf", "a.PDF", "x/c.tiff"]
    assert names("*.pdf") == ["b.pdf"]
    assert names(".", pattern="c.*") == ["x/c.tiff"]
    assert names("x/notes.txt") == ["x/notes.txt"]  # what is named is taken, and reported
    for missing in ("nowhere", "*.docx"):
        with pytest.raises(NotFound, match="name a file"):
            names(missing)


def test_sources_behind_a_url(bucket: fsspec.AbstractFileSystem) -> None:
    bucket.pipe_file("/docs/deep/a.pdf", b"%PDF-")
    assert list_sources(["memory://docs"]) == ["memory:///docs/deep/a.pdf"]
    with local_copy("memory:///docs/deep/a.pdf", 100) as path:
        assert Path(path).read_bytes() == b"%PDF-"
        assert path.endswith(".pdf")
    assert not Path(path).exists()


@pytest.mark.parametrize("url", ["memory://pages", "{tmp}/pages"])
def test_page_images(url: str, tmp_path: Path, bucket: fsspec.AbstractFileSystem) -> None:
    images = PageFiles(url.format(tmp=tmp_path))
    images.put("acme", DOC_ID, 1, b"one")
    images.put("acme", DOC_ID, 2, b"two")
    images.put("other", DOC_ID, 1, b"theirs")
    assert images.get("acme", DOC_ID, 2) == b"two"
    document = Document(doc_id=DOC_ID, sha256="", source="", tenant="acme")
    assert images.forget(document) == 2
    assert images.forget(document) == 0
    assert images.get("other", DOC_ID, 1) == b"theirs"
    with pytest.raises(NotFound):
        images.get("acme", DOC_ID, 1)
    for escape in ("../../etc", "0" * 31, "", "A" * 32):
        with pytest.raises(InvalidInput):
            images.get("acme", escape, 1)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_query_images_are_checked_before_they_are_decoded() -> None:
    assert decode_image(encoded(Image.new("L", (20, 10))), max_pixels=200).mode == "RGB"
    for data in (
        encoded(Image.new("1", (13_000, 13_000))),
        encoded(Image.new("1", (20_000, 20_000))),  # over Pillow's own limit too
        encoded(Image.new("L", (20, 11))),
        encoded(Image.new("L", (20, 10)))[:40],
        encoded(Image.new("L", (20, 10)), "GIF"),
        b"",
        b"<svg/>",
    ):
        with pytest.raises(InvalidInput):
            decode_image(data, max_pixels=200)


def test_transparent_parts_are_paper() -> None:
    image = decode_image(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0))), max_pixels=100)
    assert np.asarray(image).min() == 255


@pytest.mark.parametrize("size", [(595, 842), (842, 595), (10, 10), (3000, 20), (226, 2000)])
def test_the_grid_keeps_to_the_budget(size: tuple[int, int]) -> None:
    width, height = grid_size(*size, min_pixels=4096, max_pixels=500_000)
    assert width % 32 == height % 32 == 0
    assert 4096 <= width * height <= 500_000
    with pytest.raises(InvalidInput):
        grid_size(10_000, 20, min_pixels=4096, max_pixels=500_000)


def test_a_snippet_shows_the_words_that_matched() -> None:
    text = "intro " * 200 + "the torque of the flange bolt is 42 Nm " + "outro " * 200
    shown = snippet(text, "flange torque", chars=80)
    assert "torque" in shown
    assert "flange" in shown
    assert len(shown) <= 82
    assert snippet("short", "anything", chars=80) == "short"
