"""`quire demo`."""

from typing import Annotated

import typer
from rich.console import Console

from cluster.command_options import command, command_group
from cluster.settings import load_settings

app = command_group()


@command(app)
def demo(
    pdfs: Annotated[str, typer.Option(help="Use this folder, not the made-up library.")] = "",
    store: Annotated[str, typer.Option(help="Folder for the demo's library and index.")] = (
        "./quire-demo"
    ),
) -> None:
    """Index a small library and search it by text, in Japanese, and by screenshot."""
    settings = load_settings(store=store, top_k=3)
    from jobs.demo.searches import DemoSearch, prepare
    from jobs.hits import print_hits
    from jobs.ingest.request import IngestRequest
    from jobs.ingest.run import run_ingest
    from jobs.ingest.summary import print_report
    from models.retrieval.local import open_retriever

    console = Console()
    console.rule("1. ingest")
    folder = prepare(settings, pdfs)
    report = run_ingest(settings, IngestRequest(paths=(str(folder),)))
    print_report(report)
    with open_retriever(settings) as retriever:
        for number, search in enumerate(DemoSearch.all_for(settings, folder, bool(pdfs)), start=2):
            console.rule(f"{number}. {search.title}")
            hits = retriever.hits(search.query, settings)
            print_hits(hits, search.query.text)
    console.rule("Where to go next")
    console.print(
        f"quire serve --store {store}       # the same in a browser\n"
        f'quire search "your words" --store {store}\n'
        f"quire search --image shot.png --store {store}\n"
        "quire ingest DIR            # your own PDFs, into ./quire-data\n"
        "quire --help",
        highlight=False,
    )
