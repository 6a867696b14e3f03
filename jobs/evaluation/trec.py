"""TREC's formats: topics and qrels to read, run files to write."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from cluster.core import page_id
from cluster.errors import InvalidInput
from jobs.evaluation.file_rows import read_lines
from jobs.evaluation.questions import Judgement, Question, QuestionSet, to_grade


def read_topics(path: Path, questions: QuestionSet) -> None:
    """Add the questions of a topics file: `<top>` blocks with `<num>`, `<title>`; or id TAB text.

    Raises InvalidInput.
    """
    lines = list(read_lines(path))
    is_sgml = any("<top>" in line.lower() for _, line in lines)
    for place, question in _sgml(lines) if is_sgml else _tab_separated(lines):
        questions.add(question, place)


def read_qrels(path: Path) -> Iterator[tuple[str, str, Judgement]]:
    """Yield (place, question's id, judgement) of `question 0 document grade` lines.

    A document may be `name:page`; %20 in it stands for a space. Raises InvalidInput.
    """
    for place, line in read_lines(path):
        parts = line.split()
        if len(parts) != 4:
            raise InvalidInput(
                f"{place}: write `question 0 document grade`, not {line.strip()[:80]}"
            )
        document, page = split_page(unquote(parts[2]))
        yield place, unquote(parts[0]), Judgement(document, page, to_grade(parts[3], place))


def split_page(name: str) -> tuple[str, int | None]:
    """Return (document, page) of `document:page`; without a page (name, None)."""
    document, colon, page = name.rpartition(":")
    is_page = colon and document and page.isascii() and page.isdigit() and int(page) > 0
    return (document, int(page)) if is_page else (name, None)


def run_lines(rankings: Iterable[tuple[str, Sequence[tuple[str, int]]]], tag: str) -> Iterator[str]:
    """Yield the lines of a run file: `question Q0 doc_id:page rank score tag`.

    rankings: (question's id, (doc_id, page) of its pages, best first). The score falls with the
    rank, so that any tool keeps the order.
    """
    for question_id, pages in rankings:
        for rank, page in enumerate(pages, start=1):
            yield (
                f"{quote(question_id, safe='')} Q0 {page_id(*page)} {rank} "
                f"{len(pages) + 1 - rank} {quote(tag, safe='=,._-') or 'quire'}\n"
            )


def _tab_separated(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Question]]:
    for place, line in lines:
        number, tab, text = line.partition("\t")
        if not tab:
            raise InvalidInput(f"{place}: write the topic's number, a tab and its text")
        yield place, Question(number.strip(), text.strip())


def _sgml(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Question]]:
    number = title = element = begun = ""
    for place, line in lines:
        text = line.strip()
        if text.startswith("<"):
            tag, _, text = text[1:].partition(">")
            element = tag.lower()
            if element == "top":
                number, title, begun = "", "", place
            elif element == "/top":
                if not number or not title:
                    raise InvalidInput(f"{begun or place}: a topic needs <num> and <title>")
                yield begun, Question(number, title)
        if element == "num":
            number = (number + " " + text.removesuffix("</num>").removeprefix(" Number:")).strip()
            number = number.removeprefix("Number:").strip()
        elif element == "title":
            title = (title + " " + text.removesuffix("</title>")).strip()
