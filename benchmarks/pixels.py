"""What pixels of pages take between the stages of an ingest: packed by three codecs, and raw.

    python -m benchmarks.pixels [--pages 60] [--cache DIR]

Real pages of manuals at 640 × 832 px or as many, as the embedder sees them. Each codec packs and
unpacks all of them in turn in one run; jobs/ingest/pixels.py uses LZ4.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pymupdf
from rich.console import Console
from rich.table import Table

from benchmarks.corpus import held_out_pdfs
from cluster.settings import MIB

CODECS = {"lz4": pa.Codec("lz4"), "zstd": pa.Codec("zstd", 1), "snappy": pa.Codec("snappy")}
PIXELS = 640 * 832


def pages_of(pdfs: list[Path]) -> Iterator[bytes]:
    """Yield the pixels of the first pages of each PDF, uint8 RGB."""
    for pdf in pdfs:
        with pymupdf.open(pdf) as document:
            for page in islice(document, 3):
                scale = (PIXELS / (page.rect.width * page.rect.height)) ** 0.5
                pixmap = page.get_pixmap(matrix=pymupdf.Matrix(scale, scale), alpha=False)
                yield bytes(pixmap.samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--cache", type=Path, default=Path(".cache/tiny"), help="downloads")
    args = parser.parse_args()
    pages = list(islice(pages_of(held_out_pdfs(args.cache)), args.pages))
    raw = sum(map(len, pages))
    table = Table(title=f"{len(pages)} pages, {raw / len(pages) / MIB:.2f} MiB each")
    for column in ("codec", "times smaller", "the worst page", "to pack", "to unpack"):
        table.add_column(column, justify="right")
    for name, codec in CODECS.items():
        began = time.perf_counter()
        packed = [codec.compress(page, asbytes=True) for page in pages]
        half = time.perf_counter()
        for small, page in zip(packed, pages, strict=True):
            codec.decompress(small, decompressed_size=len(page), asbytes=True)
        ended = time.perf_counter()
        worst = min(len(page) / len(small) for small, page in zip(packed, pages, strict=True))
        table.add_row(
            name,
            f"{raw / sum(map(len, packed)):.1f}",
            f"{worst:.1f}",
            f"{(half - began) / len(pages) * 1000:.2f} ms",
            f"{(ended - half) / len(pages) * 1000:.2f} ms",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
