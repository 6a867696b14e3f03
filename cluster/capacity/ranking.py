"""One embedder in one precision, with every ingest and service that could be: which are best."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.capacity.formulas import milvus_bytes, page_file_bytes, vector_bytes
from cluster.capacity.plan_settings import settings_of
from cluster.capacity.workload import Candidate, Workload
from cluster.hardware import Accelerator
from cluster.plan import MONTH_H, Goal, IngestPlan, Plan, ServingPlan, Storage

COMPUTED_ERROR, MEASURED_ERROR = 0.5, 0.15


@dataclass(frozen=True)
class Choice:
    """`ingests` are empty where there are no pages, `servings` where no service is possible."""

    workload: Workload
    cards: Mapping[str, Accelerator]
    embedder: Candidate
    late: Candidate | None
    precision: str
    ingests: Sequence[IngestPlan]
    servings: Sequence[ServingPlan]

    def cheapest(self, most_bytes: float = math.inf) -> Plan | None:
        """Return the least money of what is in time; where nothing is, what is nearest to it.

        On cards of at most so much memory: None where they cannot hold all.
        """
        ingests = [each for each in self.ingests if self._card_bytes(each) <= most_bytes]
        servings = [each for each in self.servings if self._card_bytes(each) <= most_bytes]
        if len(ingests) < bool(self.ingests) or len(servings) < bool(self.servings):
            return None
        return self._plan(
            min(ingests, key=self._ingest_rank, default=None),
            min(servings, key=_price, default=None),
        )

    def fastest(self) -> Plan | None:
        """The most pages a second, or the quickest answers, for the budget or with all cards."""
        if self.workload.budget is None and not self.workload.is_counted:
            return None  # ever more cards would be ever faster
        money = math.inf if self.workload.budget is None else self.workload.budget
        if not self.ingests:
            paid = (each for each in self.servings if each.cost_per_hour * MONTH_H <= money)
            serving = min(paid, key=lambda each: (each.p95_s, _price(each)), default=None)
            return self._plan(None, serving) if serving else None
        serving = min(self.servings, key=_price, default=None)
        money -= serving.cost_per_hour * MONTH_H if serving else 0.0
        paid_for = (each for each in self.ingests if each.cost <= money)
        ingest = max(paid_for, key=lambda each: (each.pages_per_s, -each.cost), default=None)
        return self._plan(ingest, serving) if ingest else None

    def smallest(self) -> Plan | None:
        """On cards with as little memory as can meet everything."""
        sizes = {card.memory_bytes for card in self.cards.values()}
        plans = (plan for size in sizes if (plan := self.cheapest(size)))
        return min(plans, key=self.size, default=None)

    def size(self, plan: Plan) -> tuple[bool, int]:
        """Order plans by what they miss, then by the memory of their largest card."""
        return bool(plan.misses), self._card_bytes(plan)

    def _card_bytes(self, part: Plan | IngestPlan | ServingPlan) -> int:
        return max((self.cards[kind].memory_bytes for kind in part.gpus), default=0)

    def _ingest_rank(self, ingest: IngestPlan) -> tuple[float, float, float]:
        return self._late_h(ingest), ingest.cost, ingest.hours

    def _late_h(self, ingest: IngestPlan) -> float:
        """Hours beyond the deadline."""
        deadline = self.workload.deadline
        return 0.0 if deadline is None else max(0.0, ingest.hours - deadline / 3600)

    def _plan(self, ingest: IngestPlan | None, serving: ServingPlan | None) -> Plan:
        plan = Plan(
            model=self.embedder.name,
            precision=self.precision,
            ingest=ingest,
            serving=serving,
            storage=self._storage(),
            settings=settings_of(
                self.workload, self.embedder, self.precision, self.late, ingest, serving
            ),
            expected_error=COMPUTED_ERROR,
        )
        measured = all(each.measured for each in plan.replicas)
        error = MEASURED_ERROR if measured else COMPUTED_ERROR
        return replace(plan, misses=tuple(self._misses(plan)), expected_error=error)

    def _misses(self, plan: Plan) -> Iterator[str]:
        if plan.ingest and self._late_h(plan.ingest):
            wanted = (self.workload.deadline or 0) / 3600
            yield f"the ingest takes {plan.ingest.hours:.1f} h, not {wanted:.1f}"
        if self.workload.qps and not plan.serving:
            yield (
                f"no service of {self.workload.qps:g} queries a second within "
                f"{self.workload.p95:g} s"
            )
        if self.workload.budget is not None and plan.cost > self.workload.budget:
            yield f"it costs {plan.cost:,.0f}, not {self.workload.budget:,.0f}"

    def _storage(self) -> Storage:
        pages, late = self.workload.pages, self.late
        dimension = self.workload.dimensions or self.embedder.dimension
        rows = math.ceil(pages * self.workload.rows_per_page)
        vectors = math.ceil(pages * (1 + self.workload.embedded_chunks))
        kind = self.workload.milvus_vectors
        mmap = self.workload.milvus_mmap == "on"
        memory, disk = milvus_bytes(rows, vectors, dimension, kind, mmap=mmap)
        cells = late.max_pixels // late.shape.vision.token_px**2 if late else 0
        width = late.dimension if late else 0
        file_bytes = page_file_bytes(cells, width, self.workload.multi_vectors)
        held = vector_bytes(vectors, dimension, kind)
        return Storage(pages, rows, held, memory, disk, file_bytes * pages, vectors)


def ranked(choices: Sequence[Choice]) -> Iterator[Plan]:
    """Yield the winner of each goal, then the cheapest of every choice; each plan once."""
    cheapest = sorted((plan for each in choices if (plan := each.cheapest())), key=_rank)
    winners = _winners(choices, cheapest)
    seen: list[Plan] = []
    for plan in (*winners.values(), *cheapest):
        if plan is not None and plan not in seen:
            seen.append(plan)
            yield replace(plan, goals=tuple(goal for goal, best in winners.items() if best == plan))


def _winners(choices: Sequence[Choice], cheapest: Sequence[Plan]) -> dict[Goal, Plan | None]:
    if all(plan.misses for plan in cheapest):  # then the price is not what was asked for
        return {"nearest": min(cheapest, key=_distance, default=None)}
    fastest = (plan for each in choices if (plan := each.fastest()))
    smallest = (
        (each.size(plan), _rank(plan), plan) for each in choices if (plan := each.smallest())
    )
    return {
        "cheapest": cheapest[0],
        "fastest": min(fastest, key=_slowness, default=None),
        "smallest GPU": min(smallest, key=lambda found: found[:2], default=(0, 0, None))[2],
    }


def _price(serving: ServingPlan) -> tuple[float, float]:
    return serving.cost_per_hour, serving.p95_s


def _rank(plan: Plan) -> tuple[bool, float, bool, float]:
    hours = plan.ingest.hours if plan.ingest else 0.0
    return bool(plan.misses), plan.cost, plan.precision != "bf16", hours


def _distance(plan: Plan) -> tuple[int, float, float]:
    return len(plan.misses), plan.ingest.hours if plan.ingest else 0.0, plan.cost


def _slowness(plan: Plan) -> tuple[float, float, float]:
    pages_per_s = plan.ingest.pages_per_s if plan.ingest else 0.0
    return -pages_per_s, plan.serving.p95_s if plan.serving else 0.0, plan.cost
