"""The cards of an ingest: pages a second, hours and money of so many of one kind, or of a mix."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.capacity.fit import Fit
from cluster.capacity.formulas import (
    CHUNK_TOKENS,
    SCALING,
    START_H,
    language_flops,
    page_cpu_s,
    page_flops,
)
from cluster.capacity.workload import Workload
from cluster.plan import IngestPlan


@dataclass(frozen=True)
class IngestCapacity:
    """One embedder, and beside it the model of multi-vectors if any, on the kinds it fits on.

    `cards`: what fits with the most cards that may be used.
    """

    workload: Workload
    cards: tuple[tuple[Fit, int], ...]

    def plans(self) -> Iterator[IngestPlan]:
        """Yield plans worth comparing: of each kind the fewest cards, enough of them, the most."""
        for fit, most in self.cards:
            for count in sorted({1, self._enough(fit, most), self._affordable(fit, most), most}):
                yield self.plan([(fit, count)])
        if len(self.cards) > 1 and self.workload.is_counted:
            yield self.plan(self.cards)

    def plan(self, used: Sequence[tuple[Fit, int]]) -> IngestPlan:
        """Return the ingest on these cards; all of them end together, as each takes what it can."""
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
        candidate, workload = fit.candidate, self.workload
        flops = page_flops(
            candidate.shape, workload.page_pixels(candidate), candidate.prompt_tokens
        )
        flops += workload.embedded_chunks * language_flops(candidate.shape, CHUNK_TOKENS)
        seconds = flops / fit.flops_per_s
        if (late := fit.beside) is not None:
            model = late.candidate
            seconds += page_flops(model.shape, model.max_pixels, 0) / late.flops_per_s
        if fit.card.is_cpu:  # which renders, too
            seconds += page_cpu_s(workload.scanned, workload.quality == "on") / fit.card.cores
        return 1 / seconds

    def _enough(self, fit: Fit, most: int) -> int:
        """Return the fewest cards that meet the deadline; all where none do."""
        deadline = self.workload.deadline
        if deadline is None:
            return 1

        def in_time(count: int) -> bool:
            return self.plan([(fit, count)]).hours * 3600 <= deadline

        return 1 + bisect_left(range(1, most), True, key=in_time)

    def _affordable(self, fit: Fit, most: int) -> int:
        """Return the most cards within the budget; one where even that is too much."""
        budget = self.workload.budget
        if budget is None:
            return 1
        paid = bisect_right(
            range(1, most + 1), budget, key=lambda count: self.plan([(fit, count)]).cost
        )
        return max(1, paid)


def _scaled(count: int) -> float:
    """Return the speed of so many cards as a multiple of one: each doubling loses SCALING."""
    return float(count * SCALING ** math.log2(count))
