"""Hits on a terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cluster.command_options import escape_text
from cluster.core import Hit
from cluster.text.snippets import snippet

SNIPPET_CHARS = 240


def print_hits(hits: Sequence[Hit], query: str) -> None:
    """Print rank, document, page, the scores that made the rank, and a snippet of each hit."""
    console = Console(soft_wrap=True, highlight=False)
    if not hits:
        console.print("no page found")
    for rank, hit in enumerate(hits, start=1):
        scores = {
            "maxsim": hit.maxsim,
            "rerank": hit.rerank,
            "fused": hit.fused,
            "dense": hit.dense,
            "text": hit.text_score,
            "expected CER": hit.expected_cer,
        }
        shown = "  ".join(
            f"{name} {score:.4f}" for name, score in scores.items() if score is not None
        )
        name = escape_text(Path(hit.source).name)
        console.print(f"[bold]{rank:2}. {name}  page {hit.page}[/]  [cyan]{shown}[/]")
        console.print(f"    {escape_text(snippet(hit.text, query, chars=SNIPPET_CHARS))}")
        console.print(f"    [dim]{hit.page_id}[/]")
