"""What it takes until `quire search` has answered: a process for each search, loaded from nothing.

    python -m benchmarks.start_up --store ./quire-demo [--url http://127.0.0.1:8000] [--runs 3]

The store is one that `quire demo` made; --url is a service over it, asked for the last row. Prints
wall time and CPU seconds (of the process and its children, the embedded Milvus among them), the
least of the runs. The rows "import …" are what a start consists of; "with transformers' modules and
processors" is how models were loaded before. Bytecode must have been written: where
PYTHONDONTWRITEBYTECODE is set, Python compiles every import again, which takes twice as long.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

WORDS = "cracked seat tube"
TRANSFORMERS = """
import torch
from transformers import AutoProcessor, Qwen3VLModel
from models.registry import TINY_FOLDER, TINY_RERANKER_FOLDER
for folder in (TINY_FOLDER, TINY_RERANKER_FOLDER):
    Qwen3VLModel.from_pretrained(folder, dtype=torch.float32)
    AutoProcessor.from_pretrained(folder)
"""
OURS = """
from models.engine.loading import load_checkpoint
from models.registry import registry
load_checkpoint(registry.find_spec("quire-tiny"), "fp32")
load_checkpoint(registry.find_spec("quire-tiny-reranker", "reranker"), "fp32")
"""


def measure(command: Sequence[str], runs: int) -> tuple[float, float]:
    """Run a command so many times → its least wall time and CPU time, in seconds."""
    times = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        times.append((wall, cpu))
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def commands(store: str, url: str) -> dict[str, list[str]]:
    """Every command by the name of its row."""
    python = [sys.executable, "-c"]
    search = [sys.executable, "-m", "quire", "search", WORDS]
    here = [*search, "--store", store]
    rows = {
        "import torch": [*python, "import torch"],
        "import pymilvus": [*python, "import pymilvus"],
        "both models": [*python, OURS],
        "both models, with transformers' modules and processors": [*python, TRANSFORMERS],
        "quire search --mode text": [*here, "--mode", "text"],
        "quire search (hybrid, reranked)": here,
    }
    if url:
        rows["quire search --url"] = [*search, "--url", url]
    return rows


def main() -> None:
    """Print a table of all commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--url", default="")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    table = Table("what", "wall s", "CPU s", title=f"least of {args.runs} runs")
    for name, command in commands(args.store, args.url).items():
        measure(command, 1)  # files come into memory, bytecode is written
        wall, cpu = measure(command, args.runs)
        table.add_row(name, f"{wall:.2f}", f"{cpu:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
