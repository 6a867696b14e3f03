"""The reranker: packed pairs with a shared prefix against one pair at a time in transformers.

    python -m benchmarks.reranker [--model quire-tiny-reranker] [--rounds 5] [--json]

One query and 20 documents, as a search has them: of text, and of a screenshot with images. All
variants are run in turn in one process, so that they meet the same neighbours on a busy machine.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.reference import PlainReranker
from benchmarks.store import page_text
from models.engine.loading import checkpoint_folder
from models.inputs import MultimodalInput
from models.options import RerankerOptions
from models.qwen3_vl.reranker import Qwen3VLReranker, gather
from models.registry import registry

DOCUMENTS = 20
PAGE_CHARS = 2400
SHOT_PX = (480, 352)
SAME = 1e-3  # how far scores of two variants may lie apart


@dataclass
class Variant:
    """One way to score a request, and how long each run took."""

    name: str
    score: Callable[[MultimodalInput, list[MultimodalInput]], np.ndarray]
    seconds: list[float] = field(default_factory=list)


def requests() -> dict[str, tuple[MultimodalInput, list[MultimodalInput]]]:
    """A query with its documents, by name; images are on the patch grid."""
    rng = random.Random(0)
    texts = [page_text(rng, japanese=number % 4 == 0)[:PAGE_CHARS] for number in range(DOCUMENTS)]
    shots = [_noise(number) for number in range(DOCUMENTS + 1)]
    return {
        "text, pages of text": (
            MultimodalInput(text=" ".join(texts[1].split()[40:46])),
            [MultimodalInput(text=text) for text in texts],
        ),
        "screenshot, pages of image and text": (
            MultimodalInput(images=(shots[-1],)),
            [
                MultimodalInput(text=text, images=(shot,))
                for text, shot in zip(texts, shots[:-1], strict=True)
            ],
        ),
    }


def _noise(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*SHOT_PX, 3), dtype=np.uint8)


def measure(variants: list[Variant], rounds: int) -> list[dict[str, Any]]:
    """Median seconds of each variant for each request, as ratios to the first one."""
    rows = []
    for name, (query, documents) in requests().items():
        for variant in variants:
            variant.seconds.clear()
        for number in range(rounds + 1):
            scores = []
            for variant in variants:
                started = time.perf_counter()
                scores.append(variant.score(query, documents))
                if number:  # the first round warms up
                    variant.seconds.append(time.perf_counter() - started)
            for each in scores[1:]:
                np.testing.assert_allclose(each, scores[0], atol=SAME)
        base = median(variants[0].seconds)
        rows += [
            {
                "request": name,
                "variant": variant.name,
                "ms": round(median(variant.seconds) * 1000),
                "pairs_per_s": round(len(documents) / median(variant.seconds), 1),
                "ratio": round(base / median(variant.seconds), 2),
            }
            for variant in variants
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="quire-tiny-reranker")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    options = RerankerOptions(model=args.model, precision="fp32")
    ours = Qwen3VLReranker(options)

    def apart(query: MultimodalInput, documents: list[MultimodalInput]) -> np.ndarray:
        groups = ours.encoder.encode(query, documents, share=False)
        return gather(groups, ours.score_encoded(groups))

    spec = registry.find_spec(args.model, "reranker")
    plain = PlainReranker(checkpoint_folder(spec.checkpoint, spec.revision), kept_logits=0)

    def one_at_a_time(query: MultimodalInput, documents: list[MultimodalInput]) -> np.ndarray:
        scores = [plain.score(query, document, options.instruction) for document in documents]
        return np.array(scores, np.float32)

    variants = [
        Variant("transformers, one pair at a time", one_at_a_time),
        Variant(
            "ours, one pair at a time",
            lambda q, ds: np.concatenate([ours.score(q, [document]) for document in ds]),
        ),
        Variant("ours, packed, nothing shared", apart),
        Variant("ours, packed, prefix shared", ours.score),
    ]
    rows = measure(variants, args.rounds)
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(*rows[0], title=f"{args.model}, 1 query × {DOCUMENTS} documents")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
