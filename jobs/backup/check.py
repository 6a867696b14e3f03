"""Check a backup before anything of it is restored: every hash, every count, every name."""

import re
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from cluster.errors import FormatMismatch, InvalidInput
from cluster.store import format
from cluster.store.parquet import check_rows, documents_dimension
from jobs.backup.folder import READ_BYTES, BackupFolder, HashedFile, read_tar
from jobs.backup.manifest import CollectionBackup, Manifest, Part
from jobs.progress import Step

FILE_NAME = re.compile(r"[0-9a-f]{12}/[0-9a-f]{32}/(?!\.{1,2}$)[^/\x00-\x1f\\]{1,255}")
JOB_NAME = re.compile(r"[0-9a-f]{32}\.json")


def check_backup(
    folder: BackupFolder, manifest: Manifest, collections: tuple[CollectionBackup, ...], step: Step
) -> None:
    """Read every file of these collections, and keys and jobs, to its end.

    Raises InvalidInput where one is missing, damaged, or not what the manifest says;
    FormatMismatch where a newer Quire made a collection.
    """
    checks: dict[str, Callable[[BackupFolder, str, Part], None]] = {}
    for each in collections:
        _check_counts(each)
        dimension = each.fingerprint.dimension
        for parts, check in (
            (each.document_parts, _rows_check("doc_key", documents_dimension())),
            (each.row_parts, _rows_check("row_id", dimension)),
            (each.chunk_parts, _rows_check("row_id", dimension if each.chunk_vectors else None)),
            (each.page_file_parts, _tar_check(FILE_NAME)),
            (each.upload_parts, _tar_check(FILE_NAME)),
        ):
            checks |= {f"{each.folder}/{part.name}": check for part in parts}
    checks |= {part.name: _tar_check(JOB_NAME) for part in manifest.job_parts}
    if manifest.keys:
        checks[manifest.keys.name] = _check_plain
    files = manifest.files()
    for done, (path, check) in enumerate(checks.items(), start=1):
        with _named(folder, path):
            check(folder, path, files[path])
        step("checking files", done, len(checks))


def _check_counts(collection: CollectionBackup) -> None:
    """Raise where the parts do not add up to what the manifest says of the collection."""
    if collection.format > format.FORMAT:
        raise FormatMismatch(
            f"collection {collection.name!r} of the backup has format {collection.format} and "
            f"this Quire reads up to {format.FORMAT}: use the newer Quire that made it"
        )
    for what, parts in (
        ("documents", collection.document_parts),
        ("rows", (*collection.row_parts, *collection.chunk_parts)),
        ("page_files", collection.page_file_parts),
        ("uploads", collection.upload_parts),
    ):
        entries = sum(part.entries for part in parts)
        if entries != getattr(collection, what):
            raise InvalidInput(
                f"the backup's manifest does not add up: {what} of {collection.name!r} are "
                f"{getattr(collection, what)}, and its files have {entries}"
            )


def _rows_check(key: str, dimension: int | None) -> Callable[[BackupFolder, str, Part], None]:
    def check(folder: BackupFolder, path: str, part: Part) -> None:
        _check_plain(folder, path, part)
        with folder.reading(path) as file:
            check_rows(file, key=key, rows=part.entries, dimension=dimension)

    return check


def _tar_check(names: re.Pattern[str]) -> Callable[[BackupFolder, str, Part], None]:
    def check(folder: BackupFolder, path: str, part: Part) -> None:
        with folder.reading(path) as file:
            hashed, entries = HashedFile(file), 0
            for entry, _ in read_tar(hashed):  # type: ignore[arg-type]
                if not names.fullmatch(entry.name):
                    raise InvalidInput(f"{entry.name!r} is no name of a file in it")
                entries += 1
            _check_hash(hashed, part)
            if entries != part.entries:
                raise InvalidInput(f"it has {entries} files and not {part.entries}")

    return check


def _check_plain(folder: BackupFolder, path: str, part: Part) -> None:
    with folder.reading(path) as file:
        _check_hash(HashedFile(file), part)


def _check_hash(file: HashedFile, part: Part) -> None:
    """Read a file to its end. Raises InvalidInput where its bytes are not those of the backup."""
    while file.read(READ_BYTES):
        pass
    if (file.size, file.sha256) != (part.bytes, part.sha256):
        raise InvalidInput("its bytes are not those that were written: size or sha256 differ")


@contextmanager
def _named(folder: BackupFolder, path: str) -> Any:
    """Let errors about a file name it."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(
            f"the backup at {folder.url} is damaged at {path}: {error}; restore another one"
        ) from error
