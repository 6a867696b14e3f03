"""`quire evaluate` from end to end, by words alone: no model is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cluster.settings import Settings
from jobs.evaluation.command import app

pytestmark = pytest.mark.services


def evaluate(settings: Settings, *arguments: object) -> Result:
    flags = ("--store", settings.store, "--mode", "text", "--rerank", "none")
    return CliRunner().invoke(app, list(map(str, (*arguments, *flags))))


def report_of(settings: Settings, *arguments: object) -> dict[str, Any]:
    done = evaluate(settings, *arguments, "--json")
    assert done.exit_code == 0, done.output
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


def mean(report: dict[str, Any], metric: str, column: int = 0, table: int = 0) -> float:
    value = report["tables"][table]["columns"][column]["cells"][metric]["value"]["mean"]
    return float(value)


def test_metrics_notes_and_latencies(manuals: Settings, questions: Path) -> None:
    report = report_of(manuals, questions)
    assert mean(report, "hit@1") == 0.75
    assert mean(report, "mrr") == 0.75
    assert mean(report, "precision@10") == pytest.approx(0.075)
    assert report["per_question"]["relevant"]["as set"]["lost"]["ndcg@10"] == 0
    assert any(
        "the collection lacks, which count as not found: 1 (" in note for note in report["notes"]
    )
    assert set(report["latencies"]["as set"]) == {"search", "total"}
    assert report["worst"][0]["id"] == "lost"
    assert report["synthetic"] == 0


def test_documents_are_judged_where_no_page_is_named(manuals: Settings, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"query": "noise", "relevant": [{"doc": "pumps", "grade": 2}, "ovens"]}')
    report = report_of(manuals, file)
    assert mean(report, "recall@3") == 1
    assert mean(report, "precision@5") == pytest.approx(2 / 5)
    assert any("judged by document" in note for note in report["notes"])


def test_several_ground_truths_over_the_same_candidates(
    manuals: Settings, questions: Path, tmp_path: Path
) -> None:
    (tmp_path / "strict.qrels").write_text("rope 0 cranes.pdf:1 1\n")
    report = report_of(manuals, questions, "--qrels", f"strict={tmp_path / 'strict.qrels'}")
    assert [table["truth"] for table in report["tables"]] == ["relevant", "strict"]
    assert report["tables"][1]["columns"][0]["questions"] == 1
    assert mean(report, "hit@1", table=1) == 0


def test_variants_are_columns_with_differences(manuals: Settings, questions: Path) -> None:
    flags = ("--compare", "rerank_k=5", "--compare", "fusion=weights")
    report = report_of(manuals, questions, *flags)
    columns = report["tables"][0]["columns"]
    assert [column["run"] for column in columns] == ["as set", "rerank_k=5", "fusion=weights"]
    assert columns[0]["cells"]["mrr"]["difference"] is None
    assert columns[1]["cells"]["mrr"]["difference"]["p"] == 1
    assert columns[1]["common"] == 4


def test_a_kept_run_is_compared_with(manuals: Settings, questions: Path, tmp_path: Path) -> None:
    report_of(manuals, questions, "--name", "before")
    worse = tmp_path / "worse.jsonl"
    text = questions.read_text().replace('"query": "rope"', '"query": "zebra"')
    worse.write_text(text + '{"id": "new", "query": "oil", "doc": "pumps", "pages": [3]}')
    report = report_of(manuals, worse, "--against", "before")
    first, own = report["tables"][0]["columns"]
    assert first["run"] == "before (as set)"
    assert (first["questions"], own["questions"], own["common"]) == (4, 5, 4)
    assert own["cells"]["hit@1"]["difference"]["mean"] == pytest.approx(-0.25)
    assert list(report["latencies"]) == ["as set"]
    lost = evaluate(manuals, worse, "--against", "never")
    assert lost.exit_code == 2
    assert "before" in lost.stderr


def test_the_gate(manuals: Settings, questions: Path) -> None:
    passes = evaluate(manuals, questions, "--fail-below", "hit@1=0.75")
    assert passes.exit_code == 0
    fails = evaluate(manuals, questions, "--fail-below", "mrr=0.2", "--fail-below", "nDCG@10=0.8")
    assert fails.exit_code == 1
    assert "ndcg@10 of 'as set' is 0.7500, below 0.8" in fails.stderr
    wrong = evaluate(manuals, questions, "--fail-below", "ndcg@10=60")
    assert wrong.exit_code == 2


def test_the_report_is_one_file_with_pictures_and_no_markup_from_outside(
    manuals: Settings, questions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    with questions.open("a") as file:
        file.write('{"query": "<script>alert(1)</script> zebra", "doc": "cranes", "pages": [1]}\n')
        file.write('{"query": "noise", "doc": "cranes.pdf", "pages": [3], "synthetic": true}\n')
    done = evaluate(manuals, questions, "--compare", "rerank_k=7", "--out", out)
    assert done.exit_code == 0, done.output
    page = (out / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<svg") == 2
    assert "data:image/jpeg;base64," in page
    assert "no picture kept" in page  # of the document that is not there
    assert "http-equiv" in page
    assert "are synthetic" in page
    assert 'src="http' not in page
    assert "1 / rank of the first relevant page" in page
    markdown = (out / "report.md").read_text()
    assert "| metric | as set | rerank\\_k=7 |" in markdown
    assert "**mrr**: 1 / rank" in markdown
    assert json.loads((out / "report.json").read_text())["synthetic"] == 1
    runs = sorted((out / "runs").iterdir())
    assert [run.name for run in runs] == ["1-as-set.trec", "2-rerank_k=7.trec"]
    question, q0, document, rank, score, _ = runs[0].read_text().splitlines()[0].split()
    assert (question, q0, document.endswith(":2"), rank) == ("rope", "Q0", True, "1")
    assert float(score) > 0


def test_what_is_wrong_is_one_line(manuals: Settings, questions: Path) -> None:
    for flags, message in (
        (("--compare", "rerank"), "write a setting and its value"),
        (("--compare", "mode=best"), "settings cannot be used: mode"),
        (("--name", "../x"), "is no name"),
        (("--write",), "--write needs --sweep"),
        (("--qrels", "a=none.qrels"), "there are no qrels"),
        (("--collection", "other"), "is empty"),
    ):
        done = evaluate(manuals, questions, *flags)
        assert done.exit_code == 2, flags
        assert message in done.stderr
