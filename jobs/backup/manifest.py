"""What a backup holds, as its manifest.json says: written last, so that without it there is none.

Names of files are never taken from a manifest as paths: a part has a plain name, and its folder
follows from the name of its collection.
"""

import json
from importlib.metadata import version
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.core import Fingerprint
from cluster.errors import FormatMismatch, InvalidInput
from cluster.settings import COLLECTION_PATTERN

FORMAT = 2  # since chunks have files of their own


class Part(BaseModel):
    """One file of a backup; `entries`: rows of a Parquet file, or files of a tar file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z-]{1,32}(-\d{5}\.(parquet|tar)|\.json)$")]
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    entries: Annotated[int, Field(ge=0)]


class CollectionBackup(BaseModel):
    """One collection: `documents` and `rows` as Milvus counted them, and its files.

    `format`: of the collection. `uploads_url`: where the sources of its uploads began.
    `chunk_parts`: rows of chunks, where these do not lie among those of pages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=COLLECTION_PATTERN)]
    format: int
    fingerprint: Fingerprint
    chunk_vectors: bool = True
    documents: int
    rows: int
    pages: int
    page_files: int
    uploads: int
    uploads_url: str
    document_parts: tuple[Part, ...]
    row_parts: tuple[Part, ...]
    chunk_parts: tuple[Part, ...] = ()
    page_file_parts: tuple[Part, ...]
    upload_parts: tuple[Part, ...]

    @property
    def folder(self) -> str:
        """Return the folder of its files within the backup."""
        return f"collections/{self.name}"


class Manifest(BaseModel):
    """A whole backup. `keys` and `jobs` are there where the whole store was backed up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    quire: str = Field(default_factory=lambda: version("quire"))
    created: str
    collections: tuple[CollectionBackup, ...]
    keys: Part | None = None
    job_parts: tuple[Part, ...] = ()

    def files(self) -> dict[str, Part]:
        """Return every file but the manifest, by its path within the backup."""
        files = {part.name: part for part in self.job_parts}
        if self.keys:
            files[self.keys.name] = self.keys
        for each in self.collections:
            for parts in (each.document_parts, each.row_parts, each.chunk_parts):
                files |= {f"{each.folder}/{part.name}": part for part in parts}
            for parts in (each.page_file_parts, each.upload_parts):
                files |= {f"{each.folder}/{part.name}": part for part in parts}
        return files


def parse_manifest(text: bytes) -> Manifest:
    """Read a manifest. Raises FormatMismatch where a newer Quire wrote it, else InvalidInput."""
    try:
        content: Any = json.loads(text)
        format = content["format"]
        if isinstance(format, int) and format > FORMAT:
            raise FormatMismatch(
                f"the backup has format {format}, of Quire {content.get('quire')}, and this Quire "
                f"reads up to {FORMAT}: use the newer Quire that made it"
            )
        return Manifest.model_validate(content)
    except (ValueError, TypeError, KeyError, AttributeError, ValidationError) as error:
        raise InvalidInput(f"the backup's manifest cannot be used: {error}") from error
