"""The cards of an ingest: pages a second, hours and money of so many of one kind, or of a mix."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.fit import Fit
from cluster.formulas import (
    CHUNK_TOKENS,
    EFFICIENCY,
    SCALING,
    START_H,
    language_flops,
    page_cpu_s,
    page_flops,
)
from cluster.plan import IngestPlan
from cluster.workload import Candidate, Workload


@dataclass(frozen=True)
class IngestCapacity:
    """One embedder, and beside it the model of multi-vectors if any,, on the kinds it fits on.

    `cards`: what fits with the most cards that may be used.
    """

    workload: Workload
    cards: tuple[tuple[Fit, int], ...]
    late: Candidate | None = None

    def plans(self) -> Iterator[IngestPlan]:
        """What is worth a look: on each kind the fewest cards, enough of them, and the most."""
        for fit, most in self.cards:
            for count in sorted({1, self._enough(fit, most), self._affordable(fit, most), most}):
                yield self.plan([(fit, count)])
        if len(self.cards) > 1 and all(self.workload.gpus.values()):
            yield self.plan(self.cards)

    def plan(self, used: Sequence[tuple[Fit, int]]) -> IngestPlan:
        """The ingest on these cards; all of them end together, as each takes what it can."""
        workload = self.workload
        rates = [self.pages_per_s(fit) * _scaled(count) for fit, count in used]
        cpu_s = page_cpu_s(workload.scanned, workload.quality == "on")
        pages_per_s = min(sum(rates), workload.cpus / cpu_s if workload.cpus else math.inf)
        hours = workload.pages / pages_per_s / 3600 + START_H
        price = sum(fit.card.price_per_hour * count for fit, count in used)
        busy = pages_per_s / sum(rates)
        return IngestPlan(
            workers=tuple(
                fit.replicas(count, rate / count, busy)
                for (fit, count), rate in zip(used, rates, strict=True)
            ),
            gpus={fit.card.name: count for fit, count in used if not fit.card.is_cpu},
            pages=workload.pages,
            pages_per_s=pages_per_s,
            hours=hours,
            cost=price * hours,
            render_cpus=math.ceil(pages_per_s * cpu_s),
        )

    def pages_per_s(self, fit: Fit) -> float:
        """Pages of one card: their images, their text's chunks, their multi-vectors."""
        candidate = fit.candidate
        pixels = self.workload.max_pixels or candidate.max_pixels
        flops = page_flops(candidate.shape, pixels, candidate.prompt_tokens)
        chunks = self.workload.rows_per_page - 1
        flops += chunks * language_flops(candidate.shape, CHUNK_TOKENS)
        seconds = flops / fit.flops_per_s
        if (late := self.late) is not None:
            peak = fit.card.tflops("bf16") * 1e12
            seconds += page_flops(late.shape, late.max_pixels, 0) / (EFFICIENCY * peak)
        return 1 / seconds

    def _enough(self, fit: Fit, most: int) -> int:
        """The fewest cards that meet the deadline; all where none do."""
        if self.workload.deadline is None:
            return 1
        counts = range(1, most + 1)
        enough = (n for n in counts if self.plan([(fit, n)]).hours * 3600 <= self.workload.deadline)
        return next(enough, most)

    def _affordable(self, fit: Fit, most: int) -> int:
        """The most cards within the budget; one where even that is too much."""
        if self.workload.budget is None:
            return 1
        counts = range(most, 0, -1)
        cheap = (n for n in counts if self.plan([(fit, n)]).cost <= self.workload.budget)
        return next(cheap, 1)


def _scaled(count: int) -> float:
    """What so many cards do as a multiple of one: SCALING is lost with each doubling."""
    return float(count * SCALING ** math.log2(count))
