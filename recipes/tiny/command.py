"""The command line of every training here: a cache, a folder for the checkpoint, a seed."""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

CHECKPOINTS = Path(__file__).resolve().parents[2] / "models" / "checkpoints"


def run(train: Callable[[Path, Path, int], None], *, description: str | None, out: Path) -> None:
    """Parse the command line and train; what is in the cache is kept, by default in `out`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cache", type=Path, default=Path(".cache/tiny"), help="downloads, stages")
    parser.add_argument("--out", type=Path, default=out, help="checkpoint folder")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args.cache.mkdir(parents=True, exist_ok=True)
    train(args.cache, args.out, args.seed)
