"""Uploads: kept once, whole or not at all, under names that are safe."""

import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from cluster.errors import InvalidInput, TooLarge
from cluster.folders import CHUNK_BYTES
from cluster.sources import open_url
from jobs.uploads import Uploads, safe_name
from tests.support.s3 import S3Server


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.services)])
def uploads_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        s3: S3Server = request.getfixturevalue("s3")
        return s3.folder()
    return str(tmp_path / "up")


def files_below(url: str) -> list[str]:
    fs, root = open_url(url)
    return sorted(fs.find(root)) if fs.exists(root) else []


def bytes_at(source: str) -> bytes:
    with fsspec.open(source, "rb") as file:
        return bytes(file.read())


def test_the_same_bytes_at_the_same_time(uploads_url: str) -> None:
    uploads = Uploads(uploads_url, "quire", 2**30)
    for _ in range(3 if uploads_url.startswith("s3") else 20):
        data = os.urandom(200_000)
        start = threading.Barrier(8)

        def put(number: int, data: bytes = data, start: threading.Barrier = start) -> str:
            start.wait()
            return uploads.put("acme", f"name {number % 2}.pdf", io.BytesIO(data))

        with ThreadPoolExecutor(8) as pool:
            sources = set(pool.map(put, range(8)))
        assert all(bytes_at(source) == data for source in sources)
        assert len(sources) <= 2
    assert not [file for file in files_below(uploads_url) if file.endswith(".part")]


def test_bytes_are_kept_once_under_their_first_name(uploads_url: str) -> None:
    uploads = Uploads(uploads_url, "quire", 100)
    first = uploads.put("acme", "first.pdf", io.BytesIO(b"x"))
    assert uploads.put("acme", "second.pdf", io.BytesIO(b"x")) == first
    assert uploads.put("other", "first.pdf", io.BytesIO(b"x")) != first
    assert len(files_below(uploads_url)) == 2
    with pytest.raises(TooLarge):
        uploads.put("acme", "big.pdf", io.BytesIO(bytes(101)))


@pytest.mark.parametrize("read", [1, 2, 3])
def test_an_upload_that_breaks_off_leaves_nothing(uploads_url: str, read: int) -> None:
    class BreaksOff(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            if self.reads == 2 + read:  # two are for its hash
                raise OSError(28, "No space left on device")
            return super().read(size)

    uploads = Uploads(uploads_url, "quire", 2**30)
    with pytest.raises(OSError, match="No space"):
        uploads.put("acme", "a.pdf", BreaksOff(bytes(CHUNK_BYTES + 2**20)))
    assert files_below(uploads_url) == []


def test_an_upload_to_s3_is_no_copy(s3: S3Server) -> None:
    """An object appears when it is complete: nothing is written beside it and moved."""
    uploads = Uploads(s3.folder(), "quire", 2**30)
    with s3.recorded() as small:
        uploads.put("acme", "small.pdf", io.BytesIO(b"x"))
    assert [each.method for each in small.requests if not each.is_list] == ["PUT"]
    with s3.recorded() as large:
        source = uploads.put("acme", "large.pdf", io.BytesIO(bytes(CHUNK_BYTES + 1)))
    assert [each.method for each in large.requests if not each.is_list] == ["POST", "PUT", "POST"]
    assert {each.name for each in large.requests if not each.is_list} == {"large.pdf"}
    assert len(bytes_at(source)) == CHUNK_BYTES + 1


@pytest.mark.parametrize(
    "name",
    [
        "あ" * 500 + ".pdf",
        "é" * 500 + ".TIFF",
        "a" * 500 + ".png",
        "\ud800\udfff.pdf",
        "\ud83d a.pdf",
    ],
    ids=ascii,
)
def test_names_that_a_file_system_would_not_take(uploads_url: str, name: str) -> None:
    kept = safe_name(name)
    assert len(kept.encode()) <= 200
    assert kept[:1] == name[:1] or "\ud800" <= name[0] <= "\udfff"
    source = Uploads(uploads_url, "quire", 2**30).put(
        "acme", name, io.BytesIO(name.encode("utf-16", "replace"))
    )
    assert source.endswith(f"/{kept}")
    assert bytes_at(source)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/報告 2024.pdf", "報告 2024.pdf"),
        ("C:\\Users\\me\\a b.PDF", "a b.PDF"),
        ('a\x00\n"<>|?*:b.pdf', "a_b.pdf"),
        ("a\ud800b.pdf", "a_b.pdf"),
    ],
)
def test_names_are_safe(name: str, kept: str) -> None:
    assert safe_name(name) == kept


@pytest.mark.parametrize("name", ["", ".pdf", "..", "a.exe", "pdf", "\ud800", "a.pdf/"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        safe_name(name)
