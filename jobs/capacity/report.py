"""Plans for people: tables on a terminal, Markdown, a chart; and JSON for programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cluster.capacity.fit import Rejection, gib
from cluster.capacity.planner import Outcome
from cluster.capacity.ranking import COMPUTED_ERROR
from cluster.plan import MONTH_H, Plan, Replicas
from cluster.settings import GIB

MAX_PLANS = 8
MAX_REASONS = 10
PREFERRED = "bf16"
Rows = list[tuple[str, ...]]
PLAN_COLUMNS = (
    "", "best as", "embedder", "ingest on", "pages/s", "hours", "cost",
    "serve on", "p95 s", "most q/s", "cost/h",
)  # fmt: skip
REPLICA_ROWS = (
    "", "model", "precision", "GPU", "replicas", "share of a GPU", "memory fraction",
    "would fit on one GPU",
    "batch tokens", "weights, GiB", "CUDA context", "vision peak", "language peak", "workspace",
    "KV cache", "reserve", "in all (larger peak)", "requests/s", "busy", "speed is",
)  # fmt: skip
REASON_COLUMNS = ("model", "GPU", "why not")
WORDS = {*REASON_COLUMNS, "", "best as", "embedder", "ingest on", "serve on"}
KEYS = {"", "embedder"}  # of a table of plans
SENTENCES = {"best as", "why not"}  # may wrap, between words
MIN_SENTENCE = 16
PADDING = 2


def to_json(outcome: Outcome) -> str:
    """Return every plan and every rejection."""
    text: bytes = TypeAdapter(Outcome).dump_json(outcome, indent=1)
    return text.decode()


def print_outcome(outcome: Outcome, console: Console, *, chosen: Plan | None, whole: bool) -> None:
    """Tables of the plans, of the chosen one's replicas and storage, and of what fails.

    `whole` shows what is left out otherwise.
    """
    for title, columns, rows in _tables(outcome, chosen, whole):
        for part, places in enumerate(_parts(columns, rows, console.width)):
            name = title if part == 0 else f"{title}, continued"
            selected = [tuple(row[place] for place in places) for row in rows]
            console.print(_table(name, tuple(columns[place] for place in places), selected))
            console.print()
    if chosen is not None:
        console.print(Group(*map(Text, notes(chosen))))
    elif not outcome.plans:
        console.print(
            "No plan: allow more cards, more time, fewer candidates, other models or precisions."
        )


def to_markdown(outcome: Outcome, *, chosen: Plan | None, whole: bool) -> str:
    """Return the same as Markdown."""
    parts = []
    for title, columns, rows in _tables(outcome, chosen, whole):
        lines = [columns, tuple("---" for _ in columns), *rows]
        table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        parts.append(f"### {title}\n\n{table}\n")
    if chosen is not None:
        parts.append("\n".join(f"- {note}" for note in notes(chosen)) + "\n")
    return "\n".join(parts)


def _tables(
    outcome: Outcome, chosen: Plan | None, whole: bool
) -> list[tuple[str, tuple[str, ...], Rows]]:
    plans = outcome.plans if whole else outcome.plans[:MAX_PLANS]
    tables = []
    if plans:
        rows = [plan_row(number, plan) for number, plan in enumerate(plans, 1)]
        tables.append(_without_empty("Plans", PLAN_COLUMNS, rows))
    if chosen is not None:
        number = outcome.plans.index(chosen) + 1
        columns, *rows = zip(*replica_columns(chosen), strict=True)
        tables.append((f"Plan {number}", columns, rows))
    if outcome.rejected:
        tables.append(_reasons(outcome.rejected, whole))
    return tables


def plan_row(number: int, plan: Plan) -> tuple[str, ...]:
    ingest, serving = plan.ingest, plan.serving
    goals = ", ".join([*plan.goals, *(["misses"] if plan.misses else [])])
    row = [str(number), goals, f"{short(plan.model)} {plan.precision}"]
    if ingest:
        cost = f"{ingest.cost:,.2f}"
        row += [cards(ingest.gpus), f"{ingest.pages_per_s:.1f}", f"{ingest.hours:.1f}", cost]
    else:
        row += [""] * 4
    if serving:
        most = f"{serving.most_qps:.1f}"
        row += [cards(serving.gpus), f"{serving.p95_s:.2f}", most, f"{serving.cost_per_hour:.2f}"]
    else:
        row += [""] * 4
    return tuple(row)


def replica_columns(plan: Plan) -> Rows:
    """Build a column for each model on each kind of card, behind one of names."""
    ingest = plan.ingest.workers if plan.ingest else ()
    serving = plan.serving.replicas if plan.serving else ()
    columns: Rows = [REPLICA_ROWS]
    columns += [_replica_column("ingest", each) for each in ingest]
    columns += [_replica_column("serve", each) for each in serving]
    if not any(each.memory.cache for each in plan.replicas):
        cache = REPLICA_ROWS.index("KV cache")
        columns = [(*column[:cache], *column[cache + 1 :]) for column in columns]
    return columns


def _replica_column(work: str, each: Replicas) -> tuple[str, ...]:
    memory = each.memory
    peaks = (memory.weights, memory.context, memory.vision, memory.language)
    return (
        f"{work}: {each.role}",
        short(each.model),
        each.precision,
        each.gpu or "CPU",
        str(each.count),
        f"{each.gpu_share:.2f}",
        f"{each.memory_fraction:.2f}",
        str(each.fits),
        f"{each.batch_tokens:,}",
        *map(gib, (*peaks, memory.workspace, memory.cache, memory.reserve, memory.total)),
        f"{each.per_s:.2f}",
        f"{each.busy:.0%}",
        "measured" if each.measured else "computed",
    )


def _reasons(rejected: Sequence[Rejection], whole: bool) -> tuple[str, tuple[str, ...], Rows]:
    """Return all of them, or those of the preferred precision."""
    preferred = [each for each in rejected if each.precision == PREFERRED] or rejected
    shown = rejected if whole else preferred[:MAX_REASONS]
    left = len(rejected) - len(shown)
    title = "What does not do" + (f" ({left} more with --all)" if left else "")
    return title, REASON_COLUMNS, [reason_row(each) for each in shown]


def notes(plan: Plan) -> list[str]:
    """Say what tables do not."""
    storage = plan.storage
    lines = [f"does not meet: {miss}" for miss in plan.misses]
    if plan.ingest:
        lines.append(
            f"CPU cores to render {plan.ingest.pages_per_s:.1f} pages/s: {plan.ingest.render_cpus}"
        )
    if plan.serving:
        month = plan.serving.cost_per_hour * MONTH_H
        lines.append(
            f"serving: {month:,.0f} a month of {MONTH_H} h; with the ingest {plan.cost:,.0f}"
        )
    if storage.pages:
        lines.append(
            f"storage: {storage.rows:,} rows; Milvus {gib(storage.milvus_memory_bytes)} GiB of "
            f"memory and {gib(storage.milvus_disk_bytes)} GiB of disk; {storage.vectors:,} vectors "
            f"of {gib(storage.vector_bytes)} GiB; page files {gib(storage.page_files_bytes)} GiB"
        )
    if plan.ingest and plan.serving:
        lines.append(f"at most at one time, ingest first: {cards(plan.gpus)}")
    lines.append(
        f"times and prices: expect ±{plan.expected_error:.0%}; "
        + (
            "measured by `quire calibrate`"
            if plan.expected_error < COMPUTED_ERROR
            else f"{_computed(plan)} computed, not measured (quire calibrate)"
        )
    )
    return lines


def _computed(plan: Plan) -> str:
    """Return the roles whose speed was not measured."""
    roles = dict.fromkeys(each.role for each in plan.replicas if not each.measured)
    return ", ".join(roles)


def reason_row(each: Rejection) -> tuple[str, ...]:
    return f"{short(each.model)} {each.precision}", each.gpu, each.reason


def short(model: str) -> str:
    return model.removeprefix("qwen3-vl-")


def cards(gpus: dict[str, int]) -> str:
    """ "2 × H100, 1 × L4"."""
    return ", ".join(f"{count} × {kind}" for kind, count in gpus.items()) or "CPU"


def _without_empty(
    title: str, columns: tuple[str, ...], rows: Rows
) -> tuple[str, tuple[str, ...], Rows]:
    places = [n for n in range(len(columns)) if any(row[n] for row in rows)]
    return title, tuple(columns[n] for n in places), [tuple(row[n] for n in places) for row in rows]


def _parts(columns: tuple[str, ...], rows: Rows, width: int) -> list[list[int]]:
    """Return the places of the columns, in as many tables as a terminal of this width needs.

    Names and numbers are never folded; each table begins with the columns that name a row.
    """
    keys = [place for place, name in enumerate(columns) if name in KEYS] or [0]
    sizes = [
        PADDING + (MIN_SENTENCE if name in SENTENCES else max(map(len, (name, *cells))))
        for name, *cells in zip(columns, *rows, strict=True)
    ]
    parts = [list(keys)]
    for place in range(len(columns)):
        if place in keys:
            continue
        if len(parts[-1]) > len(keys) and sum(sizes[n] for n in (*parts[-1], place)) > width:
            parts.append(list(keys))
        parts[-1].append(place)
    return [sorted(part) for part in parts]


def _table(title: str, columns: tuple[str, ...], rows: Rows) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for name in columns:
        justify: Literal["left", "right"] = "left" if name in WORDS else "right"
        table.add_column(name, justify=justify, no_wrap=name not in SENTENCES)
    for row in rows:
        table.add_row(*row)
    return table


def write_chart(outcome: Outcome, file: Path) -> None:
    """Time and money of every plan, and the memory of the best one's replicas, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plans = outcome.plans[:MAX_PLANS]
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    _draw_plans(left, plans)
    _draw_memory(right, plans[0])
    figure.savefig(file, dpi=120, format="png")
    plt.close(figure)


def _draw_plans(axes: Any, plans: Sequence[Plan]) -> None:
    names, times, colors, prices = [], [], [], []
    for number, plan in enumerate(plans, 1):
        ingest, serving = plan.ingest, plan.serving
        names.append(
            f"{number}: {short(plan.model)}\n{plan.precision}, {', '.join(plan.goals)}".rstrip(", ")
        )
        times.append(ingest.hours if ingest else serving.p95_s if serving else 0.0)
        colors.append("tab:red" if plan.misses else "tab:blue" if plan.goals else "tab:gray")
        costs = [f"{ingest.cost:,.2f}"] if ingest else []
        prices.append(" + ".join(costs + ([f"{serving.cost_per_hour:.2f}/h"] if serving else [])))
    bars = axes.barh(names, times, color=colors)
    axes.bar_label(bars, prices, padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.35)
    axes.set_xlabel("hours of the ingest" if plans[0].ingest else "seconds of a query, P95")
    axes.set_title("Time and cost of each plan (blue: best for a goal; red: misses something)")


def _draw_memory(axes: Any, plan: Plan) -> None:
    replicas = plan.replicas
    names = [f"{each.role}: {short(each.model)}\n{each.gpu or 'CPU'}" for each in replicas]
    rows = range(len(replicas))
    start = [0.0] * len(replicas)
    for part in ("weights", "context", "activations", "workspace", "cache", "reserve"):
        sizes = [getattr(each.memory, part) / GIB for each in replicas]
        axes.barh(rows, sizes, left=start, label=part)
        start = [before + size for before, size in zip(start, sizes, strict=True)]
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set_xlabel("GiB of one replica")
    axes.set_title("Plan 1: GPU memory")
    axes.legend(ncols=3, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12))
