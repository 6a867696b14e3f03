"""The report as Markdown."""

from collections.abc import Iterator, Sequence

from jobs.evaluation.report import Report, metric_rows
from jobs.evaluation.second_stage import Agreement


def to_markdown(report: Report) -> str:
    """Return the report as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# Evaluation {_cell(report.name)}\n"
    yield from (f"- {name}: {_cell(text)}" for name, text in report.facts.items())
    yield ""
    yield from (f"> **Note** {_cell(note)}\n" for note in report.notes)
    for table in report.tables:
        questions = max((column.questions for column in table.columns), default=0)
        yield f"## By {_cell(table.truth)} ({questions:,} questions)\n"
        yield (
            "Mean [95 % interval]; then the difference to the first column with its p-value "
            "(paired bootstrap).\n"
        )
        rows = metric_rows(table)
        names = ["metric", *(column.run for column in table.columns)]
        yield from _table(names, [[row[name] for name in names] for row in rows])
        yield from _agreements(table.agreements)
    if report.sweep is not None:
        yield "## Sweep\n"
        yield (
            f"Chosen by {report.sweep.metric} on {report.sweep.tuned_on:,} questions; the tables "
            f"above are of {report.sweep.reported_on:,} others, about other documents.\n"
        )
        points = [
            [
                ", ".join(f"{name}={value}" for name, value in point.changes.items()),
                f"{point.value:.3f}",
            ]
            for point in report.sweep.points
        ]
        yield from _table(["settings", report.sweep.metric], points)
    yield "## Latency\n"
    stages = list(dict.fromkeys(stage for each in report.latencies.values() for stage in each))
    latency = [
        [
            run,
            *(
                f"{by_stage[stage].p50_ms:.1f} / {by_stage[stage].p95_ms:.1f}"
                if stage in by_stage
                else ""
                for stage in stages
            ),
        ]
        for run, by_stage in report.latencies.items()
    ]
    yield from _table(["p50 / p95, ms", *stages], latency)
    if report.unchanged:
        yield "## What rerankers left as it was\n"
        for each in report.unchanged:
            reasons = "; ".join(f"{count:,}: {reason}" for reason, count in each.reasons.items())
            yield f"- {_cell(each.run)}, of {each.questions:,} questions: {reasons or 'none'}"
        yield ""
    yield "## The worst questions\n"
    for question in report.worst:
        asked = " + ".join(filter(None, (question.text, question.image)))
        found = ", ".join(
            f"{page.source.rpartition('/')[2]} p. {page.page}" for page in question.found[:5]
        )
        yield f"- {question.ndcg:.3f} {_cell(asked)}: found {_cell(found) or 'nothing'}"
    yield "\n## What the metrics are\n"
    yield from (f"- **{name}**: {text}" for name, text in report.definitions.items())


def _agreements(agreements: Sequence[Agreement]) -> Iterator[str]:
    if not agreements:
        return
    yield "### Do rerankers agree with the grades?\n"
    rows = [
        [
            each.run,
            f"{each.candidates:,}",
            format_rho(each.pooled),
            f"{format_rho(each.mean)} ({each.questions:,})",
            "; ".join(f"{g.grade}: {g.mean_score:.3f} ({g.candidates:,})" for g in each.by_grade),
        ]
        for each in agreements
    ]
    yield from _table(
        [
            "run",
            "judged candidates",
            "Spearman, all",
            "mean by question (questions)",
            "mean score by grade (candidates)",
        ],
        rows,
    )


def format_rho(rho: float | None) -> str:
    return "too few grades" if rho is None else f"{rho:+.3f}"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(map(_cell, names)) + " |"
    yield "|" + "---|" * len(names)
    yield from ("| " + " | ".join(map(_cell, row)) + " |" for row in rows)
    yield ""


def _cell(text: str) -> str:
    """Return text that is no markup of Markdown's and stays on one line."""
    text = " ".join(text.split())
    for mark in "\\`*_<>|[]":
        text = text.replace(mark, f"\\{mark}")
    return text
