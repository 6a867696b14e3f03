"""Questions of one's own: JSON lines or CSV, a question in each row."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.settings import Settings
from jobs.evaluation.file_rows import FileRow, read_rows
from jobs.evaluation.questions import (
    RELEVANT,
    Judgement,
    Question,
    QuestionSet,
    to_grade,
    to_page,
)
from models.images import image_size

DOCUMENT = ("doc", "document", "doc-id", "item", "source")


def read_question_file(
    path: Path, settings: Settings, first_page: int, questions: QuestionSet
) -> None:
    """Add the questions of a file.

    Columns: `question` (or `query`), `image` (a path beside the file), `id`, and the judgements:
    either `relevant`, a list of {doc, page, grade} or such lists by the name of a ground truth, or
    `doc` with `pages` and `grade`. Raises InvalidInput that names the line.
    """
    for number, row in enumerate(read_rows(path), start=1):
        question = Question(
            id=row.text("id", "query-id", "question-id", "qid") or str(number),
            text=row.text("question", "query", "text"),
            image=_image(row, path.parent, settings),
            judgements=_judgements(row, first_page),
            synthetic=str(row.first("synthetic")).lower() in ("true", "1", "yes"),
        )
        questions.add(question, row.place)


def _image(row: FileRow, folder: Path, settings: Settings) -> str:
    """Return the path of a question's image, checked; "" where it has none. Raises InvalidInput."""
    name = row.text("image")
    if not name:
        return ""
    if "://" in name or name.startswith("data:"):
        raise row.error(f"image {name[:80]!r} is no path: put the picture beside the file")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise row.error(f"image {name!r} is outside of {folder}: put it beside the file")
    if not path.is_file():
        raise row.error(f"there is no image {path}")
    if path.stat().st_size > settings.max_query_image_bytes:
        raise row.error(
            f"image {name!r} is larger than {settings.max_query_image_bytes:,} bytes: scale it "
            "down (or raise max_query_image_bytes)"
        )
    width, height = image_size(path.read_bytes())
    if width * height > settings.max_query_image_pixels:
        raise row.error(
            f"image {name!r} has more than {settings.max_query_image_pixels:,} pixels: scale it "
            "down (or raise max_query_image_pixels)"
        )
    return str(path)


def _judgements(row: FileRow, first_page: int) -> dict[str, tuple[Judgement, ...]]:
    relevant = row.first(RELEVANT)
    if relevant is not None:
        relevant = _parsed(relevant, row)
        sets = relevant if isinstance(relevant, dict) else {RELEVANT: relevant}
        return {name: tuple(_of_list(entries, row, first_page)) for name, entries in sets.items()}
    document = row.text(*DOCUMENT)
    if not document:
        return {}
    pages = _list(row.first("pages", "page"), row)
    grades = _list(row.first("grades", "grade"), row)
    if len(grades) not in (0, 1, max(1, len(pages))):
        raise row.error(f"{len(grades)} grades for {len(pages)} pages: write one, or one for each")
    pages = pages or [None]
    grades = grades * len(pages) if len(grades) == 1 else grades or [None] * len(pages)
    judged = tuple(
        Judgement(document, to_page(page, row.place, first_page), to_grade(grade, row.place))
        for page, grade in zip(pages, grades, strict=True)
    )
    return {RELEVANT: judged}


def _of_list(entries: Any, row: FileRow, first_page: int) -> Iterator[Judgement]:
    if not isinstance(entries, list):
        raise row.error(
            'relevant is to be a list such as [{"doc": "a.pdf", "page": 3, "grade": 2}]'
        )
    for entry in entries:
        values = {"doc": entry} if isinstance(entry, str) else entry
        if not isinstance(values, dict):
            raise row.error(f"{str(entry)[:80]} is no judgement: write {{doc, page, grade}}")
        known = FileRow(row.place, values)
        document = known.text(*DOCUMENT)
        if not document:
            raise row.error(f"{str(entry)[:80]} names no doc")
        page = to_page(values.get("page"), row.place, first_page)
        yield Judgement(document, page, to_grade(values.get("grade"), row.place))


def _parsed(value: Any, row: FileRow) -> Any:
    """Return what a cell of a CSV has as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise row.error(f"relevant is no JSON: {error}") from error


def _list(value: Any, row: FileRow) -> list[Any]:
    """Return a list from a list, one value, or a cell such as `3`, `3;4`, `3 4` or `[3, 4]`."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return value.strip("[] ").replace(",", " ").replace(";", " ").split()
    return [value]
