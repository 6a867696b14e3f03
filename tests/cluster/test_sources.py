"""Where documents are: on disk and behind fsspec."""

from pathlib import Path

import fsspec
import pytest

from cluster.errors import NotFound
from cluster.sources import list_sources, local_copy


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
