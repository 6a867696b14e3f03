"""Plans on a terminal: whatever its width, no name is folded."""

from io import StringIO

import pytest
from rich.console import Console

from cluster.capacity.workload import load_workload
from cluster.settings import load_settings
from jobs.capacity.plan import plan_capacity
from jobs.capacity.report import print_outcome, short


@pytest.mark.parametrize("width", [60, 80, 120, 1000])
def test_no_name_is_folded(width: int) -> None:
    workload = load_workload(
        None, gpus="L4:8,H100:4", pages=176_443, deadline="24h", qps=5, p95="1s"
    )
    outcome = plan_capacity(load_settings(), workload)
    console = Console(width=width, file=StringIO())
    print_outcome(outcome, console, chosen=outcome.plans[0], whole=False)
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    tables = [line for line in lines if line.startswith(" 1 ")]
    assert tables and all(short(outcome.plans[0].model) in line for line in tables)
    shown = "\n".join(lines)
    for text in (
        "fastest",
        "8 × L4, 4 × H100",
        "serve: reranker",
        "would fit on one GPU",
        "cost/h",
    ):
        assert text in shown
    assert ("continued" in shown) == (width < 1000)
