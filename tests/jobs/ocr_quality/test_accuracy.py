"""Error rates of what was read, and transcripts to hold it against."""

from pathlib import Path

import pytest

from cluster.errors import UnreadableDocument
from jobs.ocr_quality.accuracy import accuracy
from jobs.ocr_quality.transcripts import transcript_of


@pytest.mark.parametrize(
    ("read", "truth", "cer", "wer"),
    [
        ("one  two\nthree", "one two three", 0.0, 0.0),
        ("", "one two", 1.0, 1.0),
        ("one twx", "one two", 1 / 7, 0.5),
        ("noise " * 40, "one two", 1.0, 1.0),
        ("請求 書", "請求書", 0.0, 0.0),
        ("請求言", "請求書", 1 / 3, 1 / 3),
        ("ﬁne", "fine", 0.0, 0.0),
    ],
)
def test_error_rates(read: str, truth: str, cer: float, wer: float) -> None:
    found = accuracy(read, truth, {})
    assert found.cer == pytest.approx(cer)
    assert found.wer == pytest.approx(wer)
    assert found.fields is None


def test_recall_and_fields_do_not_mind_the_order() -> None:
    found = accuracy("TOTAL 12.50 Main Street 4", "4 main Street total 12.50", {"a": "12.50"})
    assert found.recall == pytest.approx(3 / 5)
    assert found.fields == 1.0
    assert accuracy("x", "abc", {"total": "12", "empty": ""}).fields == 0.0


def test_a_truth_without_characters_is_refused() -> None:
    with pytest.raises(ValueError, match="without"):
        accuracy("x", "  ", {})


def test_transcripts_beside_documents(tmp_path: Path) -> None:
    document = tmp_path / "a.png"
    assert transcript_of(str(document)).stamp == ""
    (tmp_path / "a.txt").write_text("one\ftwo")
    (tmp_path / "a.json").write_text('{"total": 12.5, "name": null}')
    found = transcript_of(str(document))
    assert [found.truth(page, "layer") for page in (1, 2, 3)] == ["one", "two", ""]
    assert dict(found.fields) == {"total": "12.5", "name": ""}
    (tmp_path / "a.json").write_text('{"deep": {"x": 1}}')
    with pytest.raises(UnreadableDocument, match="flat"):
        transcript_of(str(document))
