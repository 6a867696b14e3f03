"""Questions and the judgements that say which documents and pages are right for them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cluster.errors import InvalidInput, TooLarge

MAX_QUESTIONS = 100_000
MAX_JUDGEMENTS = 2_000_000
MAX_GRADE = 1000
RELEVANT = "relevant"  # the name of a ground truth that its file gives none


@dataclass(frozen=True)
class Judgement:
    """How well a page answers a question; without a page, a whole document.

    `document` is an id, a file name with or without its suffix, or the end of a path. Grade 0: not
    relevant; higher is better.
    """

    document: str
    page: int | None = None
    grade: int = 1


@dataclass(frozen=True)
class Question:
    """A text, the path of an image, or both; judgements by the name of a ground truth."""

    id: str
    text: str = ""
    image: str = ""
    judgements: Mapping[str, tuple[Judgement, ...]] = field(default_factory=dict)
    synthetic: bool = False  # made by a program: what it shows is no proof

    def with_judgements(self, more: Mapping[str, tuple[Judgement, ...]]) -> "Question":
        """Return the question with further judgements beside its own."""
        names = [*self.judgements, *(name for name in more if name not in self.judgements)]
        joined = {name: (*self.judgements.get(name, ()), *more.get(name, ())) for name in names}
        return replace(self, judgements=joined)


class QuestionSet:
    """Questions in the order in which they came; one of the same id again adds its judgements."""

    def __init__(self) -> None:
        self._questions: dict[str, Question] = {}
        self._judgements = 0

    def __contains__(self, question_id: str) -> bool:
        return question_id in self._questions

    def add(self, question: Question, place: str) -> None:
        """Raises InvalidInput that names the place, TooLarge."""
        known = self._questions.get(question.id)
        if known is None:
            if not question.text and not question.image:
                raise InvalidInput(f"{place}: write a question, an image, or both")
            self._questions[question.id] = replace(question, judgements={})
        elif (question.text, question.image) not in (("", ""), (known.text, known.image)):
            raise InvalidInput(f"{place}: {question.id!r} is the id of another question, too")
        if len(self._questions) > MAX_QUESTIONS:
            raise TooLarge(f"{place}: more than {MAX_QUESTIONS:,} questions: take a sample")
        self.judge(question.id, question.judgements, place)

    def judge(
        self, question_id: str, judgements: Mapping[str, tuple[Judgement, ...]], place: str
    ) -> None:
        """Add judgements of a question that is there. Raises TooLarge."""
        self._judgements += sum(map(len, judgements.values()))
        if self._judgements > MAX_JUDGEMENTS:
            raise TooLarge(f"{place}: more than {MAX_JUDGEMENTS:,} judgements: take a sample")
        known = self._questions[question_id]
        self._questions[question_id] = known.with_judgements(judgements)

    def questions(self) -> list[Question]:
        return list(self._questions.values())


def truth_names(questions: Iterable[Question]) -> list[str]:
    """Return the names of the ground truths, in the order in which they came."""
    return list(dict.fromkeys(name for question in questions for name in question.judgements))


def to_page(value: object, place: str, first_page: int = 1) -> int | None:
    """Return a page from 1, or None for "" and None. Raises InvalidInput."""
    if value is None or value == "":
        return None
    page = _whole(value)
    if page is None or page < first_page:
        raise InvalidInput(f"{place}: {value!r} is no page: they are counted from {first_page}")
    return page + 1 - first_page


def to_grade(value: object, place: str) -> int:
    """Return a grade; 1 for "" and None; 0 below 0 (junk in TREC's files). Raises InvalidInput."""
    if value is None or value == "":
        return 1
    grade = _whole(value)
    if grade is None or grade > MAX_GRADE:
        raise InvalidInput(
            f"{place}: {value!r} is no grade: write a whole number, 0 to {MAX_GRADE:,}"
        )
    return max(0, grade)


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
