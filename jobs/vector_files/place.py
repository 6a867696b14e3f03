"""Where a file of vectors lies: on disk or at s3://, written whole or not at all."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from fsspec.implementations.local import LocalFileSystem

from cluster.errors import FilesUnavailable, InvalidInput, NotFound
from cluster.sources import open_url

Shape = Literal["npz", "parquet", "folder"]


def shape_of(url: str) -> Shape:
    """Tell by its name what a file of vectors is: what has neither ending is a folder of parts."""
    name = url.rstrip("/").lower()
    return "npz" if name.endswith(".npz") else "parquet" if name.endswith(".parquet") else "folder"


@contextmanager
def writing(url: str) -> Iterator[IO[bytes]]:
    """Open a new file; it appears under its name when it is whole. Raises FilesUnavailable."""
    fs, path = open_url(url)
    try:
        if isinstance(fs, LocalFileSystem):
            with _draft(Path(path)) as file:
                yield file
            return
        file = fs.open(path, "wb", autocommit=False)
        try:
            yield file
            file.close()
            file.commit()
        except BaseException:
            file.discard()
            raise
    except OSError as error:
        raise FilesUnavailable(
            f"{url} cannot be written ({error.strerror or error}): make room, or name another place"
        ) from error


@contextmanager
def _draft(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def reading(url: str) -> Iterator[IO[bytes]]:
    """Open a file, which can be sought in. Raises NotFound or InvalidInput."""
    fs, path = open_url(url)
    try:
        file = fs.open(path, "rb")
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {url}") from error
    except OSError as error:
        raise InvalidInput(f"{url} cannot be read: {error.strerror or error}") from error
    with file:
        yield file


def check_is_free(url: str) -> None:
    """Raise InvalidInput where a file is there, or anything in a folder, that is to be written."""
    fs, path = open_url(url)
    ending = PurePosixPath(url.rstrip("/")).suffix
    if shape_of(url) == "folder" and ending:
        raise InvalidInput(f"{url} is to end in .npz or .parquet, or to be a folder without ending")
    if fs.exists(path) and (fs.isfile(path) or fs.ls(path, detail=False)):
        raise InvalidInput(f"{url} is there already: choose another name, or remove it")
