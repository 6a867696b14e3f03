"""`quire plan` and `quire calibrate`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cluster.capacity.workload import Workload, checked, load_workload
from cluster.command_options import (
    Json,
    Model,
    Store,
    command,
    command_group,
    wide_console,
)
from cluster.errors import InvalidInput
from cluster.settings import load_settings

app = command_group()


def wanted(name: str) -> Any:
    """Return a command-line option for one of the Workload's fields; its help is written there."""
    return typer.Option(help=Workload.model_fields[name].description)


@command(app)
def plan(
    workload: Annotated[
        Path | None, typer.Option(help="A YAML file with these options, and `cards` of your own.")
    ] = None,
    gpus: Annotated[str | None, wanted("gpus")] = None,
    pages: Annotated[int | None, wanted("pages")] = None,
    deadline: Annotated[str | None, wanted("deadline")] = None,
    budget: Annotated[float | None, wanted("budget")] = None,
    qps: Annotated[float | None, wanted("qps")] = None,
    p95: Annotated[str | None, wanted("p95")] = None,
    rerank_k: Annotated[int | None, wanted("rerank_k")] = None,
    screenshots: Annotated[float | None, wanted("screenshots")] = None,
    max_pixels: Annotated[int | None, wanted("max_pixels")] = None,
    dimensions: Annotated[int | None, wanted("dimensions")] = None,
    rows_per_page: Annotated[float | None, wanted("rows_per_page")] = None,
    chunk_vectors: Annotated[str | None, wanted("chunk_vectors")] = None,
    milvus_vectors: Annotated[str | None, wanted("milvus_vectors")] = None,
    milvus_mmap: Annotated[str | None, wanted("milvus_mmap")] = None,
    scanned: Annotated[float | None, wanted("scanned")] = None,
    multi_vectors: Annotated[str | None, wanted("multi_vectors")] = None,
    late_interaction: Annotated[str | None, wanted("late_interaction")] = None,
    uploads: Annotated[str | None, wanted("uploads")] = None,
    quality: Annotated[str | None, wanted("quality")] = None,
    generator: Annotated[str | None, wanted("generator")] = None,
    answers: Annotated[float | None, wanted("answers")] = None,
    models: Annotated[str | None, wanted("models")] = None,
    rerankers: Annotated[str | None, wanted("rerankers")] = None,
    precisions: Annotated[str | None, wanted("precisions")] = None,
    cpus: Annotated[int | None, wanted("cpus")] = None,
    prices: Annotated[str | None, wanted("prices")] = None,
    profile: Annotated[
        Path | None, typer.Option(help="What `quire calibrate` measured, where it is kept apart.")
    ] = None,
    choose: Annotated[
        str, typer.Option(help="The plan for --out and --emit: cheapest, fastest, smallest, or N.")
    ] = "1",
    out: Annotated[
        Path | None, typer.Option(help="Write that plan, for ingest and serve --plan.")
    ] = None,
    emit: Annotated[
        Path | None, typer.Option(help="Write Kubernetes manifests for that plan to a folder.")
    ] = None,
    image: Annotated[
        str, typer.Option(help="Quire's container image in these manifests, with its tag.")
    ] = "",
    chart: Annotated[Path | None, typer.Option(help="Draw the plans to a PNG file.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Show every plan and reason.")] = False,
    store: Store = None,
    json_: Json = False,
) -> None:
    """Plan which models and replicas fit which GPUs, how fast and at what price."""
    flags = {name: value for name, value in locals().items() if name in Workload.model_fields}
    request = load_workload(workload, **flags)
    if profile is not None and not profile.is_file():
        raise InvalidInput(f"there is no profile {profile}: make one with `quire calibrate --out`")
    if chart is not None and chart.suffix.lower() != ".png":
        raise InvalidInput(f"the chart is a PNG: name a file.png, not {chart}")
    from jobs.capacity.plan import choose_plan, plan_capacity
    from jobs.capacity.report import print_outcome, to_json, to_markdown, write_chart

    outcome = plan_capacity(load_settings(store=store), request, profile)
    chosen = choose_plan(outcome, choose) if outcome.plans else None
    if json_:
        print(to_json(outcome))
    elif markdown:
        print(to_markdown(outcome, chosen=chosen, whole=all_))
    else:
        print_outcome(outcome, wide_console(), chosen=chosen, whole=all_)
    if chosen is None:
        raise typer.Exit(1)
    print_note = Console(stderr=True, soft_wrap=True, highlight=False).print
    number = outcome.plans.index(chosen) + 1
    try:
        if out is not None:
            out.write_text(chosen.to_yaml())
            print_note(f"plan {number} is in {out}: quire ingest DIR --plan {out}")
        if chart is not None:
            write_chart(outcome, chart)
            print_note(f"the chart is in {chart}")
        if emit is not None:
            from cluster.kubernetes.folder import write_manifests

            write_manifests(chosen, emit, image=image)
            print_note(f"plan {number} is in {emit}: kubectl apply -k {emit} (docs/kubernetes.md)")
    except OSError as error:
        raise InvalidInput(f"{error.filename} cannot be written: {error.strerror}") from error
    if chosen.misses:
        raise typer.Exit(1)


@command(app)
def calibrate(
    model: Model = None,
    random_weights: Annotated[
        str, typer.Option(help="2b or 8b: weights of that shape instead of a checkpoint.")
    ] = "",
    precisions: Annotated[
        str, typer.Option(help="As bf16,nf4. \\[default: bf16,int8,nf4 on a GPU, fp32 on a CPU]")
    ] = "",
    pixels: Annotated[
        str, typer.Option(help="Page sizes in px, as 524288,1048576; by default around its own.")
    ] = "",
    batch_tokens: Annotated[
        str, typer.Option(help="Batch budgets. \\[default: 8192,16384,32768; the least on a CPU]")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="The profile to add to; by default in the store's folder.")
    ] = None,
    store: Store = None,
) -> None:
    """Measure speed and memory on this machine, for `quire plan`."""
    settings = load_settings(store=store, model=model)
    from cluster.capacity.profile import PROFILE_FILE
    from jobs.capacity.calibrate import CalibrationRequest, calibrate_device

    given = {
        "model": settings.model,
        "random_weights": random_weights,
        "precisions": precisions,
        "pixels": pixels,
        "batch_tokens": batch_tokens,
    }
    request = checked(CalibrationRequest, "calibration", given)
    file = out or settings.data_dir / PROFILE_FILE
    calibrate_device(request, file, lambda line: print(line, flush=True))
    print(f"in {file}; `quire plan` uses it for such cards")
