"""The folder of a report: report.html, report.md, report.json, and a TREC run file for each run."""

import re
from pathlib import Path

from cluster.errors import InvalidInput
from cluster.settings import Settings
from jobs.evaluation.markdown import to_markdown
from jobs.evaluation.page import to_html
from jobs.evaluation.report import Report, to_json
from jobs.evaluation.result import EvaluationResult
from jobs.evaluation.trec import run_lines


def write_report(
    result: EvaluationResult, report: Report, settings: Settings, folder: Path
) -> None:
    """Write the files of a report. Raises InvalidInput where that is not possible."""
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        (folder / "report.html").write_text(to_html(result, report, settings))
        (folder / "report.md").write_text(to_markdown(report))
        (folder / "report.json").write_text(to_json(result, report))
        for number, run in enumerate(result.runs, start=1):
            rankings = (
                (question_id, [page.key for page in ranking.pages])
                for question_id, ranking in run.rankings.items()
            )
            name = re.sub(r"[^A-Za-z0-9=._-]+", "-", run.name).strip("-")
            with (folder / "runs" / f"{number}-{name}.trec").open("w") as file:
                file.writelines(run_lines(rankings, run.name))
    except OSError as error:
        raise InvalidInput(f"{error.filename} cannot be written: {error.strerror}") from error
