"""Data sets as folders: BEIR, and mteb or ViDoRe as they lie on disk.

    BEIR            queries.jsonl, qrels/test.tsv
    mteb, ViDoRe    queries/test-00000-of-00001.parquet, qrels/…, corpus/… (or one .jsonl each)

A corpus's ids are mapped to documents and pages by columns of the corpus; no picture is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import InvalidInput
from jobs.evaluation.file_rows import FileRow, column_name, read_rows
from jobs.evaluation.questions import Judgement, Question, QuestionSet, to_grade, to_page
from jobs.evaluation.trec import split_page

SUFFIXES = (".jsonl", ".tsv", ".parquet", ".csv")
ID = ("id", "query-id", "qid")
CORPUS_ID = ("corpus-id", "id", "docid")
DOCUMENT = ("doc-id", "document", "doc", "source", "filename", "file-name", "image-filename")
PAGE = ("page-number-in-doc", "page-number", "page")


@dataclass(frozen=True)
class CorpusColumns:
    """Which columns of a corpus have a document's name and its page; "" takes well-known ones."""

    document: str = ""
    page: str = ""
    first_page: int = 1


WELL_KNOWN = CorpusColumns()


def read_dataset(folder: Path, columns: CorpusColumns, questions: QuestionSet) -> None:
    """Add a folder's queries, and the qrels of each split as a truth. Raises InvalidInput."""
    for file in _files(folder, "queries"):
        for row in read_rows(file, (*ID, "text", "query", "question")):
            if not (question_id := row.text(*ID)):
                raise row.error("a query needs an id (_id or query-id)")
            text = row.text("query", "text", "question")
            questions.add(Question(question_id, text), row.place)
    qrels = list(_files(folder, "qrels"))
    pages = _corpus_pages(folder, columns, _judged_ids(qrels))
    for file in qrels:
        for row in read_qrels_rows(file):
            question_id, corpus_id = row.text("query-id", "qid"), row.text(*CORPUS_ID)
            if question_id not in questions:
                continue  # of another split or language
            document, page = pages.get(corpus_id) or split_page(corpus_id)
            judgement = Judgement(document, page, to_grade(row.first("score"), row.place))
            questions.judge(question_id, {_split(file): (judgement,)}, row.place)


def read_qrels_rows(file: Path) -> Iterator[FileRow]:
    """Yield rows with query-id, corpus-id and score. Raises InvalidInput."""
    for row in read_rows(file, ("query-id", "qid", *CORPUS_ID, "score")):
        if not row.text("query-id", "qid") or not row.text(*CORPUS_ID):
            raise row.error("a judgement needs query-id and corpus-id")
        yield row


def _judged_ids(qrels: list[Path]) -> set[str]:
    return {row.text(*CORPUS_ID) for file in qrels for row in read_qrels_rows(file)}


def _corpus_pages(
    folder: Path, columns: CorpusColumns, judged: set[str]
) -> dict[str, tuple[str, int | None]]:
    """Return (document, page) by the id of each judged entry whose corpus says so."""
    document = (column_name(columns.document),) if columns.document else DOCUMENT
    page = (column_name(columns.page),) if columns.page else PAGE
    pages = {}
    for file in _files(folder, "corpus", required=False):
        for row in read_rows(file, (*CORPUS_ID, *document, *page)):
            corpus_id = row.text(*CORPUS_ID)
            if corpus_id not in judged:
                continue
            name = row.text(*document)
            if columns.document and not name:
                raise row.error(f"there is no {columns.document} in the corpus")
            if name:
                number = to_page(row.first(*page), row.place, columns.first_page)
                pages[corpus_id] = (name, number)
    return pages


def _files(folder: Path, part: str, *, required: bool = True) -> Iterator[Path]:
    """Yield the files of queries, qrels or corpus, sorted. Raises InvalidInput where there is none.

    mteb names them `queries/test-….parquet`, or `queries.jsonl`, in several languages with the
    language in front: `en-queries/`.
    """
    places = [
        path
        for path in sorted(folder.iterdir())
        if path.stem == part or path.stem.endswith(f"-{part}")
    ]
    nested = [file for path in places if path.is_dir() for file in sorted(path.iterdir())]
    files = [
        file
        for file in [*(path for path in places if path.is_file()), *nested]
        if file.suffix in SUFFIXES
    ]
    if not files and required:
        raise InvalidInput(
            f"{folder} has no {part}: expected {part}.jsonl, or a folder {part}/ with Parquet, "
            "JSON lines or TSV (BEIR, mteb)"
        )
    yield from files


def _split(file: Path) -> str:
    """Return the name of a split: `test` of `qrels/test-00000-of-00001.parquet`."""
    folder = file.parent.name
    language = folder.removesuffix("-qrels") if folder.endswith("-qrels") else ""
    split = file.stem.partition("-0")[0].removesuffix("-qrels")
    return f"{language}-{split}" if language else split
