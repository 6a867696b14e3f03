"""Questions and judgements from every format, and what is wrong with a line."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from cluster.errors import InvalidInput, NotFound
from cluster.settings import load_settings
from jobs.evaluation.dataset import CorpusColumns
from jobs.evaluation.load import load_questions
from jobs.evaluation.questions import Judgement, Question

SETTINGS = load_settings()


def load(path: Path, *qrels: str, columns: CorpusColumns | None = None) -> dict[str, Question]:
    questions = load_questions(path, SETTINGS, qrels=qrels, columns=columns or CorpusColumns())
    return {question.id: question for question in questions}


def test_json_lines(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "shot.png")
    lines: list[dict[str, Any]] = [
        {"id": "a", "query": "rope", "doc": "c.pdf", "pages": [2, 3]},
        {"question": "pump", "image": "shot.png", "relevant": [{"doc": "p", "grade": 2}, "q.pdf"]},
        {
            "id": "c",
            "question": "x",
            "synthetic": True,
            "relevant": {"strict": [{"item": "7", "page": 1}], "lenient": [{"doc": "d"}]},
        },
    ]
    file = tmp_path / "q.jsonl"
    file.write_text("\n\n".join(map(json.dumps, lines)))
    questions = load(file)
    assert questions["a"].judgements == {
        "relevant": (Judgement("c.pdf", 2), Judgement("c.pdf", 3)),
    }
    assert questions["2"].image == str(tmp_path / "shot.png")
    assert questions["2"].judgements["relevant"] == (Judgement("p", grade=2), Judgement("q.pdf"))
    assert questions["c"].synthetic
    assert not questions["a"].synthetic
    assert questions["c"].judgements == {
        "strict": (Judgement("7", 1),),
        "lenient": (Judgement("d"),),
    }


def test_csv_with_several_rows_of_one_question(tmp_path: Path) -> None:
    file = tmp_path / "q.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["ID", "question", "doc", "pages", "grades"])
        writer.writerow(["1", "rope, or\ncable", "c.pdf", "2;3", "2 1"])
        writer.writerow(["1", "", "d.pdf", "", "3"])
        writer.writerow(["2", "pump", "p.pdf", "4", ""])
    questions = load(file)
    assert questions["1"].text == "rope, or\ncable"
    assert questions["1"].judgements["relevant"] == (
        Judgement("c.pdf", 2, 2),
        Judgement("c.pdf", 3, 1),
        Judgement("d.pdf", None, 3),
    )
    assert questions["2"].judgements["relevant"] == (Judgement("p.pdf", 4),)


def test_the_first_page_of_a_file_may_be_0(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"query": "x", "doc": "a", "pages": [0]}')
    questions = load(file, columns=CorpusColumns(first_page=0))
    assert questions["1"].judgements["relevant"] == (Judgement("a", 1),)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: no JSON"),
        ("[1]", "line 2: write a JSON object"),
        ('{"doc": "a"}', "line 2: write a question, an image, or both"),
        ('{"query": "x", "doc": "a", "pages": [0]}', "line 2: 0 is no page: they are counted fro"),
        ('{"query": "x", "doc": "a", "grade": "good"}', "line 2: 'good' is no grade"),
        ('{"query": "x", "doc": "a", "pages": [1], "grades": [1, 2]}', "line 2: 2 grades for 1"),
        ('{"query": "x", "relevant": "a.pdf"}', "line 2: relevant is no JSON"),
        ('{"query": "x", "relevant": [{"page": 1}]}', "line 2: .* names no doc"),
        ('{"query": ["x"], "doc": "a"}', "line 2: query or text is to be text|line 2: question or"),
        ('{"query": "x", "id": "1", "doc": "a"}', "line 2: '1' is the id of another question"),
        ('{"image": "http://host/a.png", "doc": "a"}', "line 2: image .* is no path"),
        ('{"image": "../a.png", "doc": "a"}', "line 2: image .* is outside"),
        ('{"image": "none.png", "doc": "a"}', "line 2: there is no image"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"query": "fine", "doc": "a"}\n' + line)
    with pytest.raises(InvalidInput, match=f"questions.jsonl, {message}"):
        load(file)


def test_what_cannot_be_evaluated_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there are no questions at"):
        load(tmp_path / "none.jsonl")
    file = tmp_path / "q.jsonl"
    file.write_text("")
    with pytest.raises(InvalidInput, match="there is no question in"):
        load(file)
    file.write_text('{"query": "x"}')
    with pytest.raises(InvalidInput, match="does not say which pages are right"):
        load(file)


def test_beir(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text(
        '{"_id": "q1", "text": "rope"}\n{"_id": "q2", "text": "pump"}\n'
    )
    (tmp_path / "corpus.jsonl").write_text('{"_id": "cranes", "title": "t", "text": "…"}\n')
    for name, grade in {"test": 2, "dev": 1}.items():
        (tmp_path / "qrels" / f"{name}.tsv").write_text(
            f'query-id\tcorpus-id\tscore\nq1\tcranes\t{grade}\nq9\t"quoted\t1\n'
        )
    questions = load(tmp_path)
    assert list(questions) == ["q1", "q2"]
    assert questions["q1"].judgements == {
        "dev": (Judgement("cranes", None, 1),),
        "test": (Judgement("cranes", None, 2),),
    }


def write_parquet(folder: Path, part: str, rows: list[dict[str, Any]]) -> None:
    (folder / part).mkdir(parents=True)
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, folder / part / "test-00000-of-00001.parquet")


def test_vidore_as_it_lies_on_disk(tmp_path: Path) -> None:
    """The columns of ViDoRe v3: ids are numbers, a corpus entry has a document and a page."""
    image = {"bytes": b"not read", "path": None}
    corpus = [
        {"corpus_id": 10 + page, "image": image, "doc_id": "cranes", "page_number_in_doc": page}
        for page in range(3)
    ]
    queries = [{"query_id": 1, "query": "rope", "language": "english"}]
    qrels = [
        {"query_id": 1, "corpus_id": 11, "score": 2},
        {"query_id": 1, "corpus_id": 12, "score": 1},
    ]
    parts: dict[str, list[dict[str, Any]]] = {"corpus": corpus, "queries": queries, "qrels": qrels}
    for part, rows in parts.items():
        write_parquet(tmp_path, part, rows)
    questions = load(tmp_path, columns=CorpusColumns(first_page=0))
    assert questions["1"].judgements == {
        "test": (Judgement("cranes", 2, 2), Judgement("cranes", 3, 1))
    }


def test_mteb_with_languages_and_columns_of_its_own(tmp_path: Path) -> None:
    write_parquet(tmp_path, "en-corpus", [{"id": "k1", "file": "cranes.pdf", "leaf": "2"}])
    write_parquet(tmp_path, "en-queries", [{"id": "q1", "text": "rope"}])
    write_parquet(tmp_path, "en-qrels", [{"query-id": "q1", "corpus-id": "k1", "score": 1.0}])
    questions = load(tmp_path, columns=CorpusColumns("file", "leaf"))
    assert questions["q1"].judgements == {"en-test": (Judgement("cranes.pdf", 2),)}
    with pytest.raises(InvalidInput, match="row 1: there is no book in the corpus"):
        load(tmp_path, columns=CorpusColumns("book"))


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="has no queries"):
        load(tmp_path)


@pytest.mark.parametrize(
    "topics",
    [
        "301\trope\n302\tcopper seal\n",
        "<top>\n<num> Number: 301\n<title> rope\n<desc> Description:\nlong\n</top>\n"
        "<top>\n<num>302</num>\n<title>\ncopper\nseal\n</title>\n</top>\n",
    ],
)
def test_trec_topics_with_several_ground_truths(tmp_path: Path, topics: str) -> None:
    (tmp_path / "topics.txt").write_text(topics)
    (tmp_path / "one.qrels").write_text("301 0 cranes.pdf:2 1\n302 0 a%20b.pdf -1\n999 0 x 1\n")
    (tmp_path / "two.tsv").write_text("query-id\tcorpus-id\tscore\n301\tcranes.pdf:3\t2\n")
    one, two = f"strict={tmp_path / 'one.qrels'}", str(tmp_path / "two.tsv")
    questions = load(tmp_path / "topics.txt", one, two)
    assert questions["302"].text == "copper seal"
    assert questions["301"].text == "rope"
    assert questions["301"].judgements == {
        "strict": (Judgement("cranes.pdf", 2),),
        "two": (Judgement("cranes.pdf", 3, 2),),
    }
    assert questions["302"].judgements == {"strict": (Judgement("a b.pdf", None, 0),)}


def test_a_bad_line_of_qrels_is_named(tmp_path: Path) -> None:
    (tmp_path / "topics.txt").write_text("1\trope\n")
    (tmp_path / "bad.qrels").write_text("1 0 a 1\n1 a 1\n")
    with pytest.raises(InvalidInput, match=r"bad\.qrels, line 2: write"):
        load(tmp_path / "topics.txt", str(tmp_path / "bad.qrels"))
