"""Where documents are: on disk and behind fsspec."""

from pathlib import Path

import fsspec
import pytest

from cluster.errors import InvalidInput, NotFound, UnreadableDocument
from cluster.sources import list_sources, local_copy, open_url, stamp_of
from tests.support.s3 import S3Server


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


def test_a_url_that_nothing_knows() -> None:
    with pytest.raises(InvalidInput, match=r"s4://bucket cannot be opened"):
        list_sources(["s4://bucket"])


def test_sources_at_s3(s3: S3Server) -> None:
    folder = s3.folder()
    fs, root = open_url(folder)
    fs.pipe_file(f"{root}/b[1].pdf", b"%PDF-1")
    fs.pipe_file(f"{root}/deep/a.png", b"png")
    assert list_sources([folder]) == [f"{folder}/b[1].pdf", f"{folder}/deep/a.png"]
    source = f"{folder}/b[1].pdf"
    stamp = stamp_of(source)
    fs.pipe_file(f"{root}/c.pdf", b"%PDF-2")
    fs.pipe_file(f"{root}/b[1].pdf", b"%PDF-longer")
    assert f"{folder}/c.pdf" in list_sources([folder])  # although it was listed before
    assert list_sources([f"{folder}/*.pdf"]) == [source, f"{folder}/c.pdf"]
    assert stamp_of(source) != stamp
    with local_copy(source, 100) as path:
        assert Path(path).read_bytes() == b"%PDF-longer"
    with pytest.raises(UnreadableDocument, match="over 5 bytes"), local_copy(source, 5):
        pass
    with pytest.raises(NotFound):
        list_sources([f"{folder}/nowhere"])
    with pytest.raises(OSError):
        stamp_of(f"{folder}/nowhere.pdf")
