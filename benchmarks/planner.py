"""The planner's time: 8 kinds of GPU, 5 models, 4 precisions; goal ≤ 200 ms.

    python -m benchmarks.planner

Median of 20 plans of one workload, in three cases; imports and the reading of models' files are
not counted.
"""

import time
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.capacity.planner import Planner
from cluster.capacity.profile import Profile
from cluster.capacity.workload import load_workload
from cluster.settings import load_settings
from jobs.capacity.plan import models_for

ROUNDS = 20
GOAL_MS = 200
GPUS = "L4,A10G,RTX4090,L40S,A100-80GB,H100,H200,B200"
# With ColPali five models: two embedders, two rerankers, one of multi-vectors.
CASES: dict[str, dict[str, Any]] = {
    "ingest": {"pages": 1_000_000, "deadline": "24h"},
    "ingest and serving": {"pages": 1_000_000, "deadline": "24h", "qps": 20},
    "the same with multi-vectors": {
        "pages": 1_000_000,
        "deadline": "24h",
        "qps": 20,
        "multi_vectors": "int8",
        "late_interaction": "colpali-v1.3",
    },
}


def main() -> None:
    settings = load_settings()
    table = Table(title=f"planning, median of {ROUNDS}; goal {GOAL_MS} ms")
    for name in ("workload", "plans", "rejected", "ms"):
        table.add_column(name, justify="left" if name == "workload" else "right")
    for name, case in CASES.items():
        workload = load_workload(None, gpus=GPUS, **case)
        models = models_for(settings, workload)
        times = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            outcome = Planner(workload, models, Profile()).outcome()
            times.append(1000 * (time.perf_counter() - started))
        plans, rejected = len(outcome.plans), len(outcome.rejected)
        table.add_row(name, str(plans), str(rejected), f"{median(times):.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
