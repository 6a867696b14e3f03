"""`quire evaluate`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.command_options import (
    Collection,
    FilterText,
    Json,
    Model,
    PlanFile,
    Precision,
    Store,
    Tags,
    Tenant,
    command,
    command_group,
    print_rows,
    setting,
    settings_among,
)
from cluster.core import Filter
from cluster.errors import InvalidInput
from cluster.settings import load_settings

MIN_DEPTH = 10  # what metrics at 10 look at

app = command_group()


@command(app)
def evaluate(
    questions: Annotated[
        Path,
        typer.Argument(
            help="Questions: a JSONL or CSV file, a folder as BEIR or mteb have it, or TREC topics "
            "(docs/evaluate.md)."
        ),
    ],
    qrels: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE of a further ground truth (qrels); may be repeated."),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Settings to compare with those as they are, such as rerank=none or "
            "mode=hybrid,dense_weight=0.3; may be repeated."
        ),
    ] = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Choose dense_weight and rerank on one half of the questions, and report on the "
            "other half.",
        ),
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Put what --sweep chose into quire.yaml.")
    ] = False,
    against: Annotated[
        str, typer.Option(help="Compare with this evaluation, which was kept before.")
    ] = "",
    name: Annotated[
        str, typer.Option(help="The name under which this one is kept; by default the time.")
    ] = "",
    fail_below: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with 1 where a metric is lower, such as ndcg@10=0.6; may be repeated."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the report: HTML, Markdown, JSON, and TREC run files."),
    ] = None,
    depth: Annotated[
        int, typer.Option(min=MIN_DEPTH, max=100, help="Pages that every search returns.")
    ] = 50,
    document_column: Annotated[
        str, typer.Option(help="Of a data set: the corpus's column with the document's name.")
    ] = "",
    page_column: Annotated[
        str, typer.Option(help="Of a data set: the corpus's column with the page's number.")
    ] = "",
    first_page: Annotated[
        int, typer.Option(min=0, max=1, help="The number of a document's first page in the file.")
    ] = 1,
    tenant: Tenant = None,
    tag: Tags = None,
    filter_: FilterText = None,
    mode: Annotated[str | None, setting("mode")] = None,
    fusion: Annotated[str | None, setting("fusion")] = None,
    dense_weight: Annotated[float | None, setting("dense_weight")] = None,
    rerank: Annotated[str | None, setting("rerank")] = None,
    rerank_k: Annotated[int | None, setting("rerank_k")] = None,
    reranker: Annotated[str | None, setting("reranker")] = None,
    late_interaction: Annotated[str | None, setting("late_interaction")] = None,
    plan: PlanFile = None,
    model: Model = None,
    precision: Precision = None,
    store: Store = None,
    collection: Collection = None,
    json_: Json = False,
) -> None:
    """Measure how well a collection is searched, by questions whose right pages are known."""
    flags = settings_among({key: value for key, value in locals().items() if value is not None})
    settings = load_settings(**flags)
    if write and not sweep:
        raise InvalidInput("--write needs --sweep: it writes what that chose")
    from cluster.store.filter_language import parse_filter_text
    from jobs.evaluation.dataset import CorpusColumns
    from jobs.evaluation.evaluate import EvaluationRequest, evaluate_collection
    from jobs.evaluation.gate import failed_bounds, read_bounds
    from jobs.evaluation.report import make_report, metric_rows, to_json
    from jobs.evaluation.result import result_path, save_result
    from jobs.evaluation.sweep import write_choice
    from jobs.progress import show_steps

    bounds = read_bounds(fail_below or ())
    if name:
        result_path(settings, name)
    reranks: tuple[str, ...] = ("none", "cross-encoder", "late-interaction")
    if settings.multi_vectors == "off":
        reranks = reranks[:2]
    request = EvaluationRequest(
        source=questions,
        flags=flags,
        wanted=Filter(
            tenant=tenant,
            tags=tuple(tag or ()),
            condition=parse_filter_text(filter_),
        ),
        qrels=tuple(qrels or ()),
        columns=CorpusColumns(document_column, page_column, first_page),
        changes=tuple(compare or ()),
        depth=depth,
        against=against,
        name=name,
        sweep=reranks if sweep else (),
    )
    with show_steps() as step:
        result = evaluate_collection(settings, request, step)
    kept = save_result(settings, result)
    report = make_report(result)
    note = Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print
    if json_:
        print(to_json(result, report))
    else:
        for table in report.tables:
            print(f"by {table.truth}: mean [95 % interval], difference to the first (p-value)")
            print_rows(metric_rows(table), False, empty="", paths=())
    for line in report.notes:
        note(line)
    note(f"kept as {result.name} ({kept}): --against {result.name} compares with it")
    if out is not None:
        from jobs.evaluation.report_folder import write_report

        write_report(result, report, settings, out)
        note(f"the report is {out / 'report.html'}")
    if result.sweep is not None:
        chosen = ", ".join(f"{key}: {value}" for key, value in result.sweep.chosen.items())
        note(f"the sweep chose {chosen}" + ("" if write else "; --write puts it into quire.yaml"))
        if write:
            write_choice(result.sweep.chosen, Path("quire.yaml"))
    failures = failed_bounds(bounds, report.tables[0].columns[1 if against else 0])
    for line in failures:
        note(line)
    if failures:
        raise typer.Exit(1)
