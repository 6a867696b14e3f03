"""Where page images are: on disk, behind fsspec and at S3."""

from pathlib import Path

import fsspec
import pytest

from cluster.core import Document
from cluster.errors import FilesUnavailable, InvalidInput, NotFound
from cluster.pages.files import IMAGE, WORDS, PageFiles, PageKey
from tests.support.s3 import S3Server

DOC_ID = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "place", ["folder", "memory", pytest.param("s3", marks=pytest.mark.services)]
)
def test_page_images(
    place: str,
    tmp_path: Path,
    bucket: fsspec.AbstractFileSystem,
    request: pytest.FixtureRequest,
) -> None:
    urls = {"folder": str(tmp_path / "pages"), "memory": "memory://pages"}
    url = request.getfixturevalue("s3").folder() if place == "s3" else urls[place]
    images = PageFiles(url, "quire")
    images.put("acme", DOC_ID, 1, b"one")
    images.put("acme", DOC_ID, 2, b"two")
    images.put("other", DOC_ID, 1, b"theirs")
    assert images.get("acme", DOC_ID, 2) == b"two"
    keys = [PageKey("acme", DOC_ID, page) for page in (2, 3, 1)]
    assert images.get_all(keys) == [b"two", None, b"one"] and images.get_all([]) == []
    document = Document(doc_id=DOC_ID, sha256="", source="", tenant="acme")
    assert images.forget(document) == 2
    assert images.forget(document) == 0
    assert images.get("other", DOC_ID, 1) == b"theirs"
    with pytest.raises(NotFound):
        images.get("acme", DOC_ID, 1)
    for escape in ("../../etc", "0" * 31, "", "A" * 32):
        with pytest.raises(InvalidInput):
            images.get("acme", escape, 1)


def test_a_page_at_s3_costs_its_puts_and_nothing_else(s3: S3Server) -> None:
    files = PageFiles(s3.folder(), "quire")
    keys = [PageKey("acme", DOC_ID, page) for page in range(1, 9)]
    contents = {(key, kind): b"x" for key in keys for kind in (IMAGE, WORDS)}
    with s3.recorded() as one_by_one:
        for key in keys:
            files.put_all({(key, kind): b"x" for kind in (IMAGE, WORDS)})
    assert one_by_one.methods() == ["PUT"] * 16
    with s3.recorded(latency_s=0.1) as together:
        files.put_all(contents)
    assert together.methods() == ["PUT"] * 16 and together.peak > 8
    with s3.recorded() as reads:
        assert files.get(*keys[0]) == b"x"
    assert reads.methods() == ["GET"]
    with s3.recorded() as misses, pytest.raises(NotFound):
        files.get("acme", DOC_ID, 99)
    assert not any(each.is_list for each in misses.requests)
    document = Document(doc_id=DOC_ID, sha256="", source="", tenant="acme")
    assert files.pages(document) == files.pages(document, WORDS) == set(range(1, 9))


def test_a_page_whose_put_fails_is_said(s3: S3Server) -> None:
    files = PageFiles("s3://no-such-bucket/pages", "quire")
    with pytest.raises(FilesUnavailable, match="cannot be written"):
        files.put("acme", DOC_ID, 1, b"x")
