"""The end of an ingest for people: counts, times, and what failed, grouped by reason."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from cluster.command_options import escape_text, printable, shorten_path, wide_console
from jobs.ingest.report import DocumentReport, IngestReport

MAX_PROBLEMS = 20


class Problem(NamedTuple):
    """One input, or one page of it, that is not indexed as it should be."""

    state: str
    reason: str
    source: str
    page: int | None
    message: str


def print_report(report: IngestReport) -> None:
    """Print the counts of an ingest, where the time went, and at most MAX_PROBLEMS problems."""
    console = wide_console()
    console.print(_counts(report))
    problems = [problem for document in report.documents for problem in _problems(document)]
    if problems:
        _print_problems(console, problems, report.file)


def _counts(report: IngestReport) -> Table:
    table = Table(title="Ingest", show_header=False)
    for state in ("indexed", "unchanged", "skipped", "failed"):
        table.add_row(state, f"{report.states.get(state, 0)} documents")
    table.add_row("new pages", f"{report.new_pages} ({report.pages_per_s:.1f} pages/s)")
    table.add_row("failed pages", str(report.failed_pages))
    waiting = report.seconds - report.working_seconds
    table.add_row(
        "time", f"{report.seconds:.1f} s, of which {waiting:.1f} s to start Ray and the models"
    )
    spent = "  ".join(f"{stage} {s:.1f} s" for stage, s in report.stage_seconds.items())
    table.add_row("time of all workers", spent)
    for model, tokens in report.halved_batch_tokens.items():
        table.add_row("out of memory", f"{model} went on with batches of {tokens:,} tokens")
    table.add_row("collection", f"{report.collection}: {report.fingerprint}")
    table.add_row("report", report.file)
    return table


def _problems(document: DocumentReport) -> Iterator[Problem]:
    """Yield what of a document is not indexed, or without its text."""
    if document.state in ("skipped", "failed"):
        yield Problem(document.state, document.reason, document.source, None, document.message)
    if document.state == "indexed":
        for page, failure in document.failed_pages.items():
            reason, _, message = failure.partition(": ")
            yield Problem("failed pages", reason, document.source, page, message)
    for page, cause in document.pages_without_text.items():
        yield Problem("without text", "ocr", document.source, page, cause)


def _print_problems(console: Console, problems: list[Problem], report_file: str) -> None:
    """Print each reason with its count and some of its problems, MAX_PROBLEMS in all."""
    groups: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.state, problem.reason].append(problem)
    console.print("\n[bold]Not indexed, or not all of it[/]")
    for (state, reason), shown in zip(groups, _shown(list(groups.values())), strict=True):
        console.print(f"{state}: [bold]{escape_text(reason)}[/] ({len(groups[state, reason]):,})")
        for problem in shown:
            place = "" if problem.page is None else f", page {problem.page}"
            room = max(24, console.width - 4 - len(place))
            console.print(f"  {printable(shorten_path(problem.source, room))}{place}")
            console.print(f"    {printable(problem.message)}", style="dim")
    if len(problems) > MAX_PROBLEMS:
        hidden = len(problems) - MAX_PROBLEMS
        console.print(f"… and {hidden:,} more in the report: {printable(report_file)}")


def _shown(groups: list[list[Problem]]) -> list[list[Problem]]:
    """Choose the first problems of each group, MAX_PROBLEMS in all; small groups leave room."""
    shown: dict[int, list[Problem]] = {}
    left = MAX_PROBLEMS
    smallest_first = sorted(range(len(groups)), key=lambda number: len(groups[number]))
    for turn, number in enumerate(smallest_first):
        share = max(left // (len(groups) - turn), min(1, left))
        shown[number] = groups[number][:share]
        left -= len(shown[number])
    return [shown[number] for number in range(len(groups))]
