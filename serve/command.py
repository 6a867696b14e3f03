"""`quire serve`."""

import signal
import threading
from contextlib import ExitStack
from typing import Annotated

import typer
from rich.console import Console

from cluster.command_options import (
    Collection,
    Model,
    PlanFile,
    Precision,
    Store,
    command,
    command_group,
    setting,
    settings_among,
)
from cluster.environment import prepare_serving
from cluster.settings import load_settings

app = command_group()


@command(app)
def serve(
    host: Annotated[str | None, setting("host")] = None,
    port: Annotated[int | None, setting("port")] = None,
    allow_anonymous: Annotated[
        bool | None, typer.Option("--allow-anonymous", help="Need no key on any address.")
    ] = None,
    emit_config: Annotated[
        bool, typer.Option("--emit-config", help="Print a file for `serve deploy` and end.")
    ] = False,
    plan: PlanFile = None,
    mode: Annotated[str | None, setting("mode")] = None,
    rerank: Annotated[str | None, setting("rerank")] = None,
    model: Model = None,
    reranker: Annotated[str | None, setting("reranker")] = None,
    precision: Precision = None,
    ray_address: Annotated[str | None, setting("ray_address")] = None,
    store: Store = None,
    collection: Collection = None,
) -> None:
    """Run the service: a web page, and an HTTP API.

    The API has routes of its own, and those of OpenAI, Cohere and Jina.
    """
    settings = load_settings(**settings_among(locals()))
    if emit_config:
        import yaml

        from serve.app import emit_config as config_of

        print(yaml.safe_dump(config_of(settings), sort_keys=False, allow_unicode=True), end="")
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # while it starts, like Ctrl-C
    prepare_serving()
    from serve.launch import serving

    console = Console(soft_wrap=True, highlight=False)
    with console.status("starting Ray and the models"), ExitStack() as stack:
        url = stack.enter_context(serving(settings))
        running = stack.pop_all()
    with running:
        console.print(f"[bold]{url}[/]        the page; its routes: {url}/docs")
        console.print("Ctrl-C stops it.", style="dim")
        wait_for_signal()
        console.print("stopping: requests in progress may end")


def wait_for_signal() -> None:
    """Wait until the process is told to stop."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
