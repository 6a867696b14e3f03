"""The end of an ingest for people: counts, times, and what failed, grouped by reason."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from cluster.command_options import escape_text, printable, shorten_path, wide_console
from jobs.ingest.preview import Preview
from jobs.ingest.report import STATES, DocumentReport, IngestReport

MAX_PROBLEMS = 20


class Problem(NamedTuple):
    """One input, or one page of it, that is not indexed as it should be."""

    state: str
    reason: str
    source: str
    page: int | None
    message: str


@dataclass
class Problems:
    """Problems of one kind: how many there are, and the first of them."""

    count: int = 0
    first: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        self.count += 1
        if len(self.first) < MAX_PROBLEMS:
            self.first.append(problem)


def print_report(report: IngestReport) -> None:
    """Print the counts of an ingest, where the time went, and at most MAX_PROBLEMS problems."""
    console = wide_console()
    console.print(_counts(report))
    groups: dict[tuple[str, str], Problems] = defaultdict(Problems)
    for document in report.documents:
        for problem in _problems(document):
            groups[problem.state, problem.reason].add(problem)
    if groups:
        _print_problems(console, groups, report.file)


def print_preview(preview: Preview, *, as_json: bool) -> None:
    """Print what an ingest would do."""
    if as_json:
        print(json.dumps({**vars(preview), "documents": dict(preview.documents)}))
        return
    table = Table(title="What would be done", show_header=False)
    for what, count in preview.documents.most_common():
        table.add_row(what, f"{count:,} documents")
    table.add_row("pages to embed", f"{preview.pages:,}")
    if preview.others:
        table.add_row("pages to mend", f"{preview.others:,} (pictures or chunks)")
    unknown = "unknown before the first ingest of this collection, or a plan"
    table.add_row("time", unknown if preview.seconds is None else _duration(preview.seconds))
    if preview.cost is not None:
        table.add_row("money", f"{preview.cost:,.2f}")
    wide_console().print(table)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _counts(report: IngestReport) -> Table:
    table = Table(title="Ingest", show_header=False)
    for state in STATES:
        table.add_row(state, f"{report.states[state]} documents")
    table.add_row("new pages", f"{report.new_pages} ({report.pages_per_s:.1f} pages/s)")
    table.add_row("failed pages", str(report.failed_pages))
    waiting = report.seconds - report.working_seconds
    table.add_row("time", f"{report.seconds:.1f} s, of which {waiting:.1f} s before the first page")
    spent = "  ".join(f"{stage} {s:.1f} s" for stage, s in report.stage_seconds.items())
    table.add_row("time of all workers", spent)
    if report.working_seconds:
        shares = [f"{stage} {share:.0%}" for stage, share in report.busy_shares().items()]
        table.add_row("busiest stage", f"{shares[0]} of its workers' time; {', '.join(shares[1:])}")
    for model, tokens in report.halved_batch_tokens.items():
        table.add_row("out of memory", f"{model} went on with batches of {tokens:,} tokens")
    for message in report.stuck:
        table.add_row("replaced", printable(message))
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


def _print_problems(
    console: Console, groups: dict[tuple[str, str], Problems], report_file: str
) -> None:
    """Print each reason with its count and some of its problems, MAX_PROBLEMS in all."""
    console.print("\n[bold]Not indexed, or not all of it[/]")
    shares = _shown([problems.first for problems in groups.values()])
    for ((state, reason), problems), shown in zip(groups.items(), shares, strict=True):
        console.print(f"{state}: [bold]{escape_text(reason)}[/] ({problems.count:,})")
        for problem in shown:
            place = "" if problem.page is None else f", page {problem.page}"
            room = max(24, console.width - 4 - len(place))
            console.print(f"  {printable(shorten_path(problem.source, room))}{place}")
            console.print(f"    {printable(problem.message)}", style="dim")
    total = sum(problems.count for problems in groups.values())
    if total > MAX_PROBLEMS:
        hidden = total - MAX_PROBLEMS
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
