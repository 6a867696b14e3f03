"""Lines of text that are to be embedded: of a .txt file, or of JSON objects (.jsonl)."""

import json
from collections.abc import Iterator
from functools import partial
from typing import IO, Any

from cluster.errors import InvalidInput
from cluster.sources import absolute_source, source_name
from jobs.vector_files.items import item_facts
from jobs.vector_files.place import reading
from jobs.vector_files.work import Work, WorkItem
from models.inputs import MultimodalInput

TEXT_SUFFIXES = (".txt", ".jsonl")
MAX_LINE_BYTES = 16 * 2**20


def is_text(url: str) -> bool:
    return url.lower().endswith(TEXT_SUFFIXES)


def text_items(url: str) -> Iterator[WorkItem]:
    """Yield the lines that are not empty; an object has `text`, and `id` (else its line's number).

    Raises NotFound, or InvalidInput for a line beyond any text.
    """
    source = absolute_source(url)
    is_json = url.lower().endswith(".jsonl")
    with reading(url) as file:
        for number, line in _lines(file, url):
            try:
                text, item = _read_object(line) if is_json else (line.decode(), "")
                item = item or str(number)
                facts = item_facts(source_name(source), source, item, text, number)
            except (InvalidInput, ValueError) as error:
                yield WorkItem(f"{source}:{number}", source, failure=f"line {number}: {error}")
                continue
            work = Work(facts, MultimodalInput(text=text))
            yield WorkItem(item, source, partial(_same, work), text=facts.text)


def _same(work: Work) -> Work:
    return work


def _lines(file: IO[bytes], url: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise InvalidInput(f"{url}: line {number} has over {MAX_LINE_BYTES:,} bytes")
        if stripped := line.strip():
            yield number, stripped


def _read_object(line: bytes) -> tuple[str, str]:
    """Return text and id ("" where there is none) of a JSON object. Raises InvalidInput."""
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"it is no JSON: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("text"), str):
        raise InvalidInput('it is no JSON object with a "text"')
    return values["text"], str(values.get("id", ""))
