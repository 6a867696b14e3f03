"""Multi-vectors of a search's candidates, read one after the other and as LateSearch reads them.

    python -m benchmarks.candidate_reads [--pages 100] [--latency-ms 30] [--vectors 768]

Files lie in memory behind a file system that takes a while for each read, as an object store does.
Both ways also decode what they read and score it; the model is left out: a question is one vector.
"""

import argparse
import time
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import fsspec
import numpy as np
from fsspec.implementations.memory import MemoryFileSystem
from rich.console import Console
from rich.table import Table

from cluster.pages.files import PageFiles, PageKey, vectors_kind
from cluster.pages.vectors import Tile, from_bytes, pack_vectors, to_bytes
from models.inputs import MultimodalInput
from models.late_interaction.maxsim import maxsim
from models.late_interaction.search import LateSearch
from models.registry import ModelSpec, registry

DIMENSION = 128
ROUNDS = 3


class SlowFiles(MemoryFileSystem):  # type: ignore[misc]
    """Files in memory; every read takes `latency_s`."""

    protocol = "slow"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    latency_s = 0.0

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        time.sleep(self.latency_s)
        return bytes(super().cat_file(path, start, end, **options))


@dataclass(frozen=True)
class OneVector:
    """A model whose every question is the same vector."""

    spec: ModelSpec
    vector: np.ndarray

    def embed_query(self, text: str = "", image: Any = None) -> np.ndarray:
        return self.vector


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--latency-ms", type=float, default=30)
    parser.add_argument("--vectors", type=int, default=768, help="of a page")
    args = parser.parse_args()
    fsspec.register_implementation("slow", SlowFiles)
    SlowFiles.latency_s = args.latency_ms / 1000
    files = PageFiles("slow://pages", "quire")
    spec = registry.find_spec("quire-tiny-colqwen3", "late-interaction")
    kind = vectors_kind(spec.name, spec.revision)
    keys = [PageKey("", "0" * 32, number + 1) for number in range(args.pages)]
    rng = np.random.default_rng(0)
    for key in keys:
        page = rng.standard_normal((args.vectors, DIMENSION)).astype(np.float32)
        packed = pack_vectors(page, (Tile(1, args.vectors),), storage="int8")
        files.put(*key, data=to_bytes(packed), kind=kind)
    query = rng.standard_normal((1, DIMENSION)).astype(np.float32)
    search = LateSearch(cast(Any, OneVector(spec, query)), files)

    def in_turn() -> np.ndarray:
        return maxsim(query, [from_bytes(files.get(*key, kind=kind)) for key in keys])

    def side_by_side() -> np.ndarray:
        return search.score(MultimodalInput(text="a"), keys)

    table = Table("files are read", "ms", "×")
    seconds = {name: _best_s(way) for name, way in (("in turn", in_turn), ("now", side_by_side))}
    for name, taken in seconds.items():
        table.add_row(name, f"{1000 * taken:.0f}", f"{seconds['in turn'] / taken:.1f}")
    Console().print(table)


def _best_s(work: Any) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    main()
