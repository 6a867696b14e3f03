"""MaxSim of one query against many pages: ours, colpali-engine's, and maxsim-cpu.

    python -m benchmarks.maxsim [--pages 1000] [--vectors 1030] [--words 20]

All in one run on random unit vectors of 128 dimensions; the best of several rounds. Ratios are to
colpali-engine's `score_multi_vector` on a list of fp32 tensors, which is what its processors give.
maxsim-cpu takes fp32 arrays only, so of what is stored as fp16 its share of the work begins with
making those. "Same order" compares rankings with the exact fp32 scores of the same stored vectors.
"""

import argparse
import time
from collections.abc import Callable

import maxsim_cpu
import numpy as np
import torch
from colpali_engine.models import ColPaliProcessor
from rich.console import Console
from rich.table import Table

from cluster.pages.vectors import PackedVectors, Storage, Tile, pack_vectors, to_bytes
from models.late_interaction.maxsim import maxsim

DIMENSION = 128
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--vectors", type=int, default=1030, help="of a page")
    parser.add_argument("--words", type=int, default=20, help="vectors of the query")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    pages = [_unit(rng, args.vectors) for _ in range(args.pages)]
    query = _unit(rng, args.words)
    table = Table(title=f"1 × {args.words} against {args.pages} × {args.vectors} × {DIMENSION}")
    for column in ("what", "ms", "× engine", "KiB a page", "compressed", "same order"):
        table.add_column(column, justify="left" if column == "what" else "right")
    tensors = [torch.from_numpy(page) for page in pages]
    question = [torch.from_numpy(query)]
    engine_s = _best_s(lambda: ColPaliProcessor.score_multi_vector(question, tensors, device="cpu"))
    table.add_row("colpali-engine, fp32", f"{1000 * engine_s:.0f}", "1.0", *_size(pages[0]), "")
    halves = [torch.from_numpy(page).half() for page in pages]
    half_s = _best_s(
        lambda: ColPaliProcessor.score_multi_vector(
            question, [page.float() for page in halves], device="cpu"
        )
    )
    table.add_row(
        "colpali-engine, from fp16", f"{1000 * half_s:.0f}", _ratio(engine_s, half_s), "", "", ""
    )
    cpu_s = _best_s(lambda: maxsim_cpu.maxsim_scores_variable(query, pages))
    table.add_row("maxsim-cpu, fp32", f"{1000 * cpu_s:.0f}", _ratio(engine_s, cpu_s), "", "", "")
    from_half_s = _best_s(
        lambda: maxsim_cpu.maxsim_scores_variable(query, [page.float().numpy() for page in halves])
    )
    table.add_row(
        "maxsim-cpu, from fp16",
        f"{1000 * from_half_s:.0f}",
        _ratio(engine_s, from_half_s),
        "",
        "",
        "",
    )
    storages: tuple[Storage, ...] = ("fp16", "int8", "binary")
    for storage in storages:
        packed = [pack_vectors(page, (Tile(1, len(page)),), storage=storage) for page in pages]
        ours_s = _best_s(lambda packed=packed: maxsim(query, packed))  # type: ignore[misc]
        table.add_row(
            f"ours, {storage}",
            f"{1000 * ours_s:.0f}",
            _ratio(engine_s, ours_s),
            f"{packed[0].stored_bytes / 1024:.1f}",
            f"{len(to_bytes(packed[0])) / 1024:.1f}",
            "yes" if _same_order(query, packed) else "no",
        )
    Console().print(table)
    print(f"{torch.get_num_threads()} threads")


def _unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    vectors = rng.standard_normal((rows, DIMENSION)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _best_s(work: Callable[[], object]) -> float:
    work()
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _ratio(engine_s: float, other_s: float) -> str:
    return f"{engine_s / other_s:.1f}"


def _size(page: np.ndarray) -> tuple[str, str]:
    return f"{page.nbytes / 1024:.1f}", ""


def _same_order(query: np.ndarray, packed: list[PackedVectors]) -> bool:
    """Pages in the engine's order, ties within rounding aside."""
    decoded = [torch.from_numpy(page.decode()) for page in packed]
    exact = ColPaliProcessor.score_multi_vector([torch.from_numpy(query)], decoded, device="cpu")
    ranked = exact[0].numpy()[np.argsort(-maxsim(query, packed), kind="stable")]
    return bool((np.diff(ranked) <= 1e-4).all())


if __name__ == "__main__":
    main()
