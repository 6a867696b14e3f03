"""The truth about pages: transcripts beside the document, or the PDF's own text layer.

Beside `scan.png` or `scan.pdf` may lie `scan.txt`, UTF-8, with a form feed between pages, and
`scan.json`, flat {field: value}, for documents of one page. A transcript wins over a text layer.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import UnreadableDocument

MAX_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Transcript:
    """What people say is on the pages of one document. Without `pages` nobody has said it."""

    pages: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def stamp(self) -> str:
        """Return what changes when the transcript does; "" without one."""
        if not self.pages and not self.fields:
            return ""
        return hashlib.sha256(repr((self.pages, self.fields)).encode()).hexdigest()[:16]

    def truth(self, page: int, text_layer: str) -> str:
        """Return the truth of a page (from 1); "" where there is none."""
        if not self.pages:
            return text_layer
        return self.pages[page - 1] if page <= len(self.pages) else ""


def transcript_of(document: str) -> Transcript:
    """The transcript beside a document. Raises UnreadableDocument for one that makes no sense."""
    text, fields = Path(document).with_suffix(".txt"), Path(document).with_suffix(".json")
    pages = tuple(_read(text).split("\f")) if text.is_file() else ()
    return Transcript(pages, _fields(fields) if fields.is_file() else ())


def _fields(file: Path) -> tuple[tuple[str, str], ...]:
    try:
        fields = json.loads(_read(file))
    except ValueError as error:
        raise UnreadableDocument("fields", f"{file.name} is no JSON: {error}") from error
    if not isinstance(fields, dict) or any(
        isinstance(each, dict | list) for each in fields.values()
    ):
        raise UnreadableDocument("fields", f"{file.name} must be flat: {{field: value}}")
    return tuple((str(name), "" if value is None else str(value)) for name, value in fields.items())


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UnreadableDocument("transcript", f"{file.name} is over {MAX_BYTES:,} bytes")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableDocument("transcript", f"{file.name} cannot be read: {error}") from error
