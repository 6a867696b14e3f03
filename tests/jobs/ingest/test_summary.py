"""What people read at the end of an ingest."""

import pytest

from jobs.ingest.report import DocumentReport
from jobs.ingest.summary import MAX_PROBLEMS, print_report
from tests.support.jobs import a_report


def printed(documents: list[DocumentReport], capsys: pytest.CaptureFixture[str]) -> str:
    print_report(a_report(*documents))
    return capsys.readouterr().out


def test_failures_are_grouped_by_reason_and_twenty_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    documents = [
        DocumentReport(f"/in/c{number}.pdf", "failed", reason="corrupt", message="cut off")
        for number in range(300)
    ]
    documents += [
        DocumentReport("/in/locked.pdf", "skipped", reason="encrypted", message="has a password"),
        DocumentReport(
            "/in/big.pdf",
            "indexed",
            pages=400,
            failed_pages=dict.fromkeys(range(1, 200), "timeout: over 25 s"),
            pages_without_text={7: "no language data"},
        ),
    ]
    text = printed(documents, capsys)
    assert "failed: corrupt (300)" in text
    assert "skipped: encrypted (1)" in text and "has a password" in text
    assert "failed pages: timeout (199)" in text and "big.pdf, page 1" in text
    assert "without text: ocr (1)" in text and "big.pdf, page 7" in text
    shown = sum(line.startswith("  /in/") for line in text.splitlines())
    assert shown == MAX_PROBLEMS
    assert f"… and {300 + 1 + 199 + 1 - MAX_PROBLEMS} more in the report: /" in text


def test_many_reasons_still_show_twenty(capsys: pytest.CaptureFixture[str]) -> None:
    documents = [
        DocumentReport(f"/in/{number}.pdf", "failed", reason=f"reason-{number}", message="no")
        for number in range(30)
    ]
    text = printed(documents, capsys)
    assert sum(line.startswith("  /in/") for line in text.splitlines()) == MAX_PROBLEMS
    assert "failed: reason-29 (1)" in text and "… and 10 more" in text


def test_where_all_went_well_nothing_more_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    documents = [DocumentReport("/in/a.pdf", "indexed", pages=2)]
    assert "Not indexed" not in printed(documents, capsys)


def test_a_file_name_that_is_no_utf8_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    name = "/in/" + b"caf\xe9[red].pdf".decode(errors="surrogateescape")
    documents = [DocumentReport(name, "failed", reason="x", message="[b]y")]
    text = printed(documents, capsys)
    assert "caf?[red].pdf" in text and "[b]y" in text
