"""Where documents come from: files, folders, globs, and URLs that fsspec knows (s3://…)."""

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import fsspec
import fsspec.callbacks

from cluster.errors import InvalidInput, NotFound, UnreadableDocument

PDF_SUFFIXES = (".pdf",)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
SUFFIXES = PDF_SUFFIXES + IMAGE_SUFFIXES
_FOLDERS = re.compile(r"(?<![^\s\"'`(\[=])([a-z][a-z0-9+.-]*:/)?/[^\s\"'`]*/")


def list_sources(paths: Iterable[str], pattern: str = "") -> list[str]:
    """Return every document under `paths`, sorted, each once; local ones as absolute paths.

    Folders are searched with their subfolders for names that match `pattern` (a glob), or without
    one for the suffixes that Quire reads. A file that is named is taken whatever its suffix.
    Raises NotFound for a path that matches nothing that exists.
    """
    sources: dict[str, None] = {}
    for path in paths:
        fs, root = open_url(path)
        matches = [root] if fs.exists(root) else fs.glob(root)  # a name may hold brackets
        if not matches:
            raise NotFound(f"there is nothing at {path}: name a file, a folder or a pattern")
        for match in sorted(matches):
            files = _files_below(fs, match, pattern) if fs.isdir(match) else [match]
            sources.update((fs.unstrip_protocol(file), None) for file in files)
    return list(dict.fromkeys(absolute_source(source) for source in sources))


@contextmanager
def local_copy(
    source: str, most_bytes: int, get_on: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """A local path with the bytes of a source; a temporary one where it lies elsewhere.

    `get_on` is called again and again while it is fetched.

    Raises OSError where it cannot be read, UnreadableDocument where it would have to be fetched
    and is larger than `most_bytes`.
    """
    if "://" not in source:
        yield source
        return
    fs, path = open_url(source)
    if fs.size(path) > most_bytes:
        raise UnreadableDocument(
            "too_large",
            f"it is over {most_bytes:,} bytes: raise max_document_bytes",
            skipped=True,
        )
    with tempfile.TemporaryDirectory(prefix="quire-") as folder:
        # The suffix stays, for it says what the file claims to be.
        local = str(Path(folder) / f"document{PurePosixPath(path).suffix}")
        fs.get_file(path, local, callback=_Progress(get_on))
        yield local


class _Progress(fsspec.callbacks.Callback):  # type: ignore[misc]
    """Tells that a download gets on."""

    def __init__(self, get_on: Callable[[], None]) -> None:
        super().__init__()
        self._get_on = get_on

    def relative_update(self, inc: int = 1) -> None:
        self._get_on()


def stamp_of(source: str) -> str:
    """Return what changes when a source does: size and time, or the store's own. Raises OSError."""
    if "://" not in source:
        status = Path(source).stat()
        return f"{status.st_size}:{status.st_mtime_ns}"
    fs, path = open_url(source)
    return str(fs.ukey(path))


def open_url(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a URL or path, and the path on it.

    A listing that is remembered would hide what changed since: it is asked for each time.
    Raises InvalidInput where nothing that is installed knows such URLs.
    """
    try:
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise InvalidInput(
            f"{url} cannot be opened ({error}): s3:// needs `uv sync --extra s3`, others their "
            "package of fsspec"
        ) from error
    return fs, str(path)


def _files_below(fs: fsspec.AbstractFileSystem, folder: str, pattern: str) -> list[str]:
    names = [file for file in fs.find(folder) if not PurePosixPath(file).name.startswith(".")]
    if pattern:
        return sorted(file for file in names if PurePosixPath(file).match(pattern))
    return sorted(file for file in names if PurePosixPath(file).suffix.lower() in SUFFIXES)


def absolute_source(source: str) -> str:
    """Return a source as it is stored: a local one as an absolute path, any other as its URL."""
    local = source.removeprefix("file://")
    # Path.absolute() would keep "..", and one file would be two sources.
    return source if "://" in local else os.path.abspath(local)  # noqa: PTH100


def source_name(source: str) -> str:
    """Return the name of a file without its folders."""
    return source.rpartition("/")[2]


def without_folders(text: str, *sources: str) -> str:
    """Return a message without folders: where files lie on a server is nobody's business."""
    for source in sources:
        text = text.replace(source, source_name(source))
    return _FOLDERS.sub("", text)
