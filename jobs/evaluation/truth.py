"""Ground truth in terms of a collection: names of documents resolved, grades by page."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cluster.core import Document, Filter, page_id
from cluster.errors import InvalidInput
from cluster.store.milvus import MilvusStore
from jobs.evaluation.questions import Question, truth_names

MAX_NAMED = 5  # in a message

Grades = dict[str, int]  # by key: `doc_id:page`, or `doc_id` where documents are judged


@dataclass(frozen=True)
class JudgedDocument:
    """A document of the collection that a judgement names."""

    doc_id: str
    tenant: str
    source: str


@dataclass
class Truth:
    """One ground truth: grades by question and key, 0 not relevant.

    A question any of whose judgements names no page is judged by document: the first page found of
    a document stands for it. `missing`: documents that are judged and not in the collection; they
    count as not found.
    """

    name: str
    grades: dict[str, Grades] = field(default_factory=dict)
    by_document: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    documents: dict[str, JudgedDocument] = field(default_factory=dict)  # by doc_id

    def keys(self, question_id: str, pages: Iterable[tuple[str, int]]) -> list[str]:
        """Return what is ranked for a question: keys of the pages found, each once."""
        by_document = question_id in self.by_document
        keys = (doc_id if by_document else page_id(doc_id, page) for doc_id, page in pages)
        return list(dict.fromkeys(keys))

    def questions(self) -> list[str]:
        """Return the ids of the questions that have anything relevant: those that are measured."""
        return [each for each, grades in self.grades.items() if any(grades.values())]

    def part(self, question_ids: set[str]) -> "Truth":
        """Return the truth of some questions."""
        kept = {each: grades for each, grades in self.grades.items() if each in question_ids}
        return replace(self, grades=kept, by_document=self.by_document & question_ids)


def resolve_truths(
    questions: Sequence[Question], store: MilvusStore, wanted: Filter
) -> list[Truth]:
    """Return the ground truths with the ids of the collection's documents.

    Raises InvalidInput where a name is that of several documents.
    """
    names = {
        judgement.document
        for question in questions
        for judgements in question.judgements.values()
        for judgement in judgements
    }
    documents = find_documents(names, store.each_document(wanted))
    return [_truth(name, questions, documents) for name in truth_names(questions)]


def find_documents(
    names: set[str], batches: Iterable[Sequence[Document]]
) -> dict[str, JudgedDocument]:
    """Return the indexed document that each name is of; memory grows with the names alone.

    Raises InvalidInput where a name is that of several documents.
    """
    found: dict[str, dict[str, JudgedDocument]] = defaultdict(dict)
    for documents in batches:
        for document in documents:
            if document.status == "indexed":
                judged = JudgedDocument(document.doc_id, document.tenant, document.source)
                for name in names.intersection(_names(document)):
                    found[name].setdefault(document.doc_id, judged)
    for name, by_id in found.items():
        if len(by_id) > 1:
            sources = sorted(document.source for document in by_id.values())
            raise InvalidInput(
                f"{name!r} may be any of {', '.join(sources[:MAX_NAMED])}: write more of its "
                "path, or its id (quire documents)"
            )
    return {name: next(iter(by_id.values())) for name, by_id in found.items()}


def _names(document: Document) -> Iterator[str]:
    """Yield what a judgement may call a document: id, source, ends of its path, name, stem."""
    yield document.doc_id
    rest = document.source
    while rest:
        yield rest
        rest = rest.partition("/")[2]
    name = document.source.rpartition("/")[2]
    yield name.rpartition(".")[0] or name


def _truth(
    name: str, questions: Sequence[Question], documents: Mapping[str, JudgedDocument]
) -> Truth:
    truth = Truth(name)
    missing: dict[str, None] = {}
    for question in questions:
        judgements = question.judgements.get(name)
        if not judgements:
            continue
        by_document = any(judgement.page is None for judgement in judgements)
        grades: Grades = {}
        for judgement in judgements:
            document = documents.get(judgement.document)
            if document is None:
                missing[judgement.document] = None
            else:
                truth.documents[document.doc_id] = document
            key = judgement.document if document is None else document.doc_id
            if not by_document:
                key = page_id(key, judgement.page or 0)
            grades[key] = max(judgement.grade, grades.get(key, 0))
        truth.grades[question.id] = grades
        if by_document:
            truth.by_document.add(question.id)
    truth.missing = list(missing)
    return truth
