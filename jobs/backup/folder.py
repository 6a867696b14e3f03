"""The files of a backup, in a folder or at a URL: hashed while they are written and read."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from fsspec.implementations.local import LocalFileSystem

from cluster.errors import FilesUnavailable, InvalidInput, NotFound
from cluster.sources import open_url
from jobs.backup.manifest import Manifest, Part, parse_manifest

MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"  # from before the first file until after the manifest
PARTS = ("collections", "jobs-00001.tar", "keys.json")  # what a backup that was begun may hold
MAX_PART_BYTES = 512 * 2**20
READ_BYTES = 2**20
BATCH_FILES = 32  # go side by side from and to an object store
MAX_BATCHED_BYTES = 16 * 2**20  # a larger file goes by itself, piece by piece


class HashedFile(io.RawIOBase):
    """A file that is written or read once, from its beginning, and hashed on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._file.write(data)
        self._sha256.update(data)
        self.size += len(memoryview(data))
        return len(memoryview(data))

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._sha256.update(data)
        self.size += len(data)
        return data

    def tell(self) -> int:
        return self.size

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


class BackupFolder:
    """One backup. Raises FilesUnavailable where it cannot be written."""

    def __init__(self, url: str) -> None:
        self.fs, self._root = open_url(url)
        self.url = url

    def begin(self) -> None:
        """Make room for a backup, and mark it as unfinished.

        Raises InvalidInput where anything but a backup that was interrupted is there.
        """
        with self._writing():
            names = {path.rpartition("/")[2] for path in self._names()}
            if MANIFEST in names:
                raise InvalidInput(f"there is a backup at {self.url} already: name another place")
            if names and UNFINISHED not in names:
                raise InvalidInput(f"{self.url} is not empty: name a place for the backup alone")
            for name in names & set(PARTS):
                self.fs.rm(f"{self._root}/{name}", recursive=True)
            self._make_folder(self._root)
            self.fs.pipe_file(
                f"{self._root}/{UNFINISHED}", json.dumps({"unfinished": True}).encode()
            )

    def end(self, manifest: Manifest) -> None:
        """Write the manifest: from here on it is a backup."""
        with self._writing():
            draft = f"{self._root}/{MANIFEST}.part"
            text = manifest.model_dump_json(indent=1).encode()
            if isinstance(self.fs, LocalFileSystem):
                self.fs.pipe_file(draft, text)
                Path(draft).replace(f"{self._root}/{MANIFEST}")
            else:
                self.fs.pipe_file(f"{self._root}/{MANIFEST}", text)
            self.fs.rm_file(f"{self._root}/{UNFINISHED}")

    def manifest(self) -> Manifest:
        """Read the manifest. Raises NotFound, InvalidInput or FormatMismatch."""
        try:
            text = self.fs.cat_file(f"{self._root}/{MANIFEST}")
        except FileNotFoundError as error:
            if self.fs.exists(f"{self._root}/{UNFINISHED}"):
                raise InvalidInput(
                    f"the backup at {self.url} is incomplete, for it was interrupted: make it "
                    "again, or restore another one"
                ) from error
            raise NotFound(f"there is no backup at {self.url}") from error
        return parse_manifest(text)

    @contextmanager
    def writing(self, path: str) -> Iterator[HashedFile]:
        """Open a new file of this backup."""
        with self._writing():
            whole = f"{self._root}/{path}"
            self._make_folder(whole.rpartition("/")[0])
            with self.fs.open(whole, "wb") as file:
                yield HashedFile(file)

    @contextmanager
    def reading(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file of this backup. Raises InvalidInput where it is gone or leads elsewhere."""
        whole = f"{self._root}/{path}"
        if isinstance(self.fs, LocalFileSystem):
            root = Path(self._root).resolve()
            if not Path(whole).resolve().is_relative_to(root):
                raise InvalidInput(f"{path} leads out of the backup at {self.url}")
        try:
            file = self.fs.open(whole, "rb")
        except FileNotFoundError as error:
            raise InvalidInput(f"the backup at {self.url} lacks {path}") from error
        with file:
            yield file

    def keep_private(self, path: str) -> None:
        """Let nobody but the owner read a file, where it lies in a folder."""
        if isinstance(self.fs, LocalFileSystem):
            Path(f"{self._root}/{path}").chmod(0o600)

    def _make_folder(self, folder: str) -> None:
        """Make a folder on disk; an object store has none, and its buckets are not ours to make."""
        if isinstance(self.fs, LocalFileSystem):
            self.fs.makedirs(folder, exist_ok=True)

    def _names(self) -> list[str]:
        try:
            return list(self.fs.ls(self._root, detail=False))
        except FileNotFoundError:
            return []

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FilesUnavailable(
                f"the backup cannot go on at {self.url} ({error.strerror or error}): make room, or "
                "name another place"
            ) from error


class PartWriter:
    """Writes entries into parts of a bounded size: `prefix-00001.suffix`, …

    `open_part` turns an open file into what takes the entries, and is closed with its part.
    """

    def __init__(
        self, folder: BackupFolder, path: str, suffix: str, open_part: Callable[[HashedFile], Any]
    ) -> None:
        self._folder, self._path, self._suffix = folder, path, suffix
        self._open_part = open_part
        self._open = ExitStack()  # the part that is written
        self._file: HashedFile | None = None
        self._taker: Any = None
        self._entries = 0
        self.parts: list[Part] = []

    def taker(self, entries: int) -> Any:
        """Return what takes the next entries; a part that is full is ended before."""
        if self._file is not None and self._file.size >= MAX_PART_BYTES:
            self.end_part()
        if self._file is None:
            writing = self._folder.writing(f"{self._path}-{self._number:05d}.{self._suffix}")
            self._file = self._open.enter_context(writing)
            self._taker = self._open_part(self._file)
        self._entries += entries
        return self._taker

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.end_part()

    def end_part(self) -> None:
        """End the part that is open."""
        if self._file is None:
            return
        with self._open:
            self._taker.close()
        name = f"{self._path.rpartition('/')[2]}-{self._number:05d}.{self._suffix}"
        self.parts.append(
            Part(name=name, bytes=self._file.size, sha256=self._file.sha256, entries=self._entries)
        )
        self._file, self._entries = None, 0

    @property
    def _number(self) -> int:
        return len(self.parts) + 1

    @property
    def entries(self) -> int:
        """Return how many entries the ended parts hold."""
        return sum(part.entries for part in self.parts)


def open_tar(file: HashedFile) -> tarfile.TarFile:
    """Return a tar file that is written from its beginning to its end."""
    return tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT)


def add_file(tar: tarfile.TarFile, name: str, size: int, file: IO[bytes]) -> None:
    """Add a file of so many bytes to a tar file."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    tar.addfile(entry, file)


def read_tar(file: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Yield the files of a tar file, to be read in turn. Raises InvalidInput."""
    try:
        with tarfile.open(fileobj=file, mode="r|", format=tarfile.PAX_FORMAT) as tar:
            for entry in tar:
                opened = tar.extractfile(entry) if entry.isreg() else None
                if opened is None:
                    raise InvalidInput(f"{entry.name!r} is no plain file")
                yield entry, opened
    except tarfile.TarError as error:
        raise InvalidInput(f"it is no tar file: {error}") from error
