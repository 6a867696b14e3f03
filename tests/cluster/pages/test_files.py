"""Where page images are: on disk and behind fsspec."""

from pathlib import Path

import fsspec
import pytest

from cluster.core import Document
from cluster.errors import InvalidInput, NotFound
from cluster.pages.files import PageFiles

DOC_ID = "0123456789abcdef" * 2


@pytest.mark.parametrize("url", ["memory://pages", "{tmp}/pages"])
def test_page_images(url: str, tmp_path: Path, bucket: fsspec.AbstractFileSystem) -> None:
    images = PageFiles(url.format(tmp=tmp_path), "quire")
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
