"""Questions from whatever holds them: a file of one's own, a data set's folder, or TREC's files."""

from collections.abc import Sequence
from pathlib import Path

from cluster.errors import InvalidInput, NotFound
from cluster.settings import Settings
from jobs.evaluation.dataset import (
    CORPUS_ID,
    WELL_KNOWN,
    CorpusColumns,
    read_dataset,
    read_qrels_rows,
)
from jobs.evaluation.question_file import read_question_file
from jobs.evaluation.questions import Judgement, Question, QuestionSet, to_grade, truth_names
from jobs.evaluation.trec import read_qrels, read_topics, split_page

OWN_SUFFIXES = (".jsonl", ".csv")


def load_questions(
    path: Path,
    settings: Settings,
    *,
    qrels: Sequence[str] = (),
    columns: CorpusColumns = WELL_KNOWN,
) -> list[Question]:
    """Read questions and their judgements; `qrels` are further ground truths, NAME=FILE each.

    Raises NotFound, and InvalidInput that names file and line.
    """
    questions = QuestionSet()
    if not path.exists():
        raise NotFound(f"there are no questions at {path}")
    if path.is_dir():
        read_dataset(path, columns, questions)
    elif path.suffix.lower() in OWN_SUFFIXES:
        read_question_file(path, settings, columns.first_page, questions)
    else:
        read_topics(path, questions)
    for each in qrels:
        name, equals, file = each.partition("=")
        name, file = (name, file) if equals else (Path(each).stem, each)
        _read_truth(Path(file), name, questions)
    loaded = questions.questions()
    if not loaded:
        raise InvalidInput(f"there is no question in {path}")
    if not truth_names(loaded):
        raise InvalidInput(
            f"{path} does not say which pages are right: add `relevant` (docs/evaluate.md), or "
            "give --qrels FILE"
        )
    return loaded


def _read_truth(path: Path, name: str, questions: QuestionSet) -> None:
    """Add one ground truth from TREC's qrels, or from a table with query-id, corpus-id, score."""
    if not path.is_file():
        raise NotFound(f"there are no qrels at {path}")
    if path.suffix.lower() in (".tsv", ".csv", ".jsonl", ".parquet"):
        for row in read_qrels_rows(path):
            document, page = split_page(row.text(*CORPUS_ID))
            judgement = Judgement(document, page, to_grade(row.first("score"), row.place))
            _judge(questions, row.text("query-id", "qid"), name, judgement, row.place)
        return
    for place, question_id, judgement in read_qrels(path):
        _judge(questions, question_id, name, judgement, place)


def _judge(
    questions: QuestionSet, question_id: str, name: str, judgement: Judgement, place: str
) -> None:
    if question_id in questions:  # qrels may be of more questions than are asked here
        questions.judge(question_id, {name: (judgement,)}, place)
