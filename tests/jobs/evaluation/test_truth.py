"""Names of documents in judgements, against the collection's."""

import pytest

from cluster.errors import InvalidInput
from jobs.evaluation.truth import Truth, find_documents
from tests.support.store import a_document

ONE = a_document(1, source="s3://bucket/2024/report.final.pdf")
TWO = a_document(2, source="/library/2023/report.pdf")
SAME = a_document(3, source="/library/2022/report.pdf")
FAILED = a_document(4, source="/library/broken.pdf", status="failed")


@pytest.mark.parametrize(
    "name",
    [ONE.doc_id, ONE.source, "report.final.pdf", "2024/report.final.pdf", "report.final"],
)
def test_a_document_is_named_by_id_path_or_name(name: str) -> None:
    documents = find_documents({name, "broken.pdf"}, [[ONE, TWO], [SAME, FAILED]])
    assert {key: document.doc_id for key, document in documents.items()} == {name: ONE.doc_id}


def test_a_name_of_several_documents_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"may be any of /library/2022/report\.pdf, /library"):
        find_documents({"report"}, [[TWO], [SAME]])
    assert find_documents({"2023/report.pdf"}, [[TWO, SAME]])["2023/report.pdf"].doc_id


def test_pages_of_a_document_count_once_where_documents_are_judged() -> None:
    truth = Truth("t", {"q": {"a": 1}, "p": {"a:1": 1}}, by_document={"q"})
    pages = [("b", 1), ("a", 2), ("b", 7), ("a", 1)]
    assert truth.keys("q", pages) == ["b", "a"]
    assert truth.keys("p", pages) == ["b:1", "a:2", "b:7", "a:1"]
