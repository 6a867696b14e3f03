"""The planner: workload, cards and models → ranked plans, and why the others fail.

Pure arithmetic over cluster/capacity/formulas.py; nothing is loaded and no card is touched. The
cards of the ingest and those of serving are found apart, as neither depends on the other. Replicas
on one card share its arithmetic: each computes with the share of the card that it holds.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import TypeVar

from cluster.capacity.fit import Fit, Rejection, fit
from cluster.capacity.formulas import EMBED_SHARES, SEARCH_S
from cluster.capacity.ingest import IngestCapacity
from cluster.capacity.plan_settings import LATE_BATCH_TOKENS
from cluster.capacity.profile import Profile
from cluster.capacity.ranking import Choice, ranked
from cluster.capacity.serving import Station, cards_of, price_and_time, serving_plan, station
from cluster.capacity.workload import Candidate, Workload
from cluster.errors import InvalidInput
from cluster.hardware import Accelerator
from cluster.plan import IngestPlan, Plan, ServingPlan

Found = TypeVar("Found")
MAX_CARDS = 64  # of one kind, where no number is given
SLOTS = (1, 2, 3, 4)  # equal shares of one card


@dataclass(frozen=True)
class PlannedModels:
    """What may be used. Without rerankers nothing is reranked."""

    embedders: tuple[Candidate, ...]
    rerankers: tuple[Candidate, ...] = ()
    late: Candidate | None = None
    generator: Candidate | None = None


@dataclass(frozen=True)
class Outcome:
    """Plans, best first; those with `goals` lead. And why others fail."""

    plans: tuple[Plan, ...]
    rejected: tuple[Rejection, ...]


@dataclass(frozen=True)
class Planner:
    """Plans one workload."""

    workload: Workload
    models: PlannedModels
    profile: Profile = field(default_factory=Profile)

    def outcome(self) -> Outcome:
        """Return the winner of each goal, then the cheapest plan of every model and precision.

        Raises InvalidInput where there is nothing to plan.
        """
        if not (self.workload.pages or self.workload.qps):
            raise InvalidInput("say what to plan for: --pages to ingest, --qps to serve, or both")
        if self.workload.qps and self.workload.p95 <= SEARCH_S:
            raise InvalidInput(f"p95 must be above {SEARCH_S} s: router and index take that long")
        choices = [
            choice
            for embedder in self.models.embedders
            for precision in self._precisions(embedder)
            if (choice := self._choice(embedder, precision)) is not None
        ]
        return Outcome(tuple(ranked(choices)), tuple(self._rejected.values()))

    @cached_property
    def _rejected(self) -> dict[tuple[str, str, str], Rejection]:
        """By model, precision and card: the last reason, which is that of the largest share."""
        return {}

    @cached_property
    def _cards(self) -> dict[str, tuple[Accelerator, int]]:
        """Kinds of cards, and how many of each may be used; all that can be rented by default."""
        given = self.workload.accelerators()
        return {name: (card, count or MAX_CARDS) for name, (card, count) in given.items()}

    def _choice(self, embedder: Candidate, precision: str) -> Choice | None:
        """Find where ingest and service of one embedder could run; None where one cannot."""
        ingests, servings = [], []
        if self.workload.pages and not (ingests := self._ingests(embedder, precision)):
            return None
        if self.workload.qps:
            servings = list(self._servings(embedder, precision))
        if not ingests and not servings:
            return None
        cards = {name: card for name, (card, _) in self._cards.items()}
        return Choice(
            self.workload, cards, embedder, self.models.late, precision, ingests, servings
        )

    def _ingests(self, embedder: Candidate, precision: str) -> list[IngestPlan]:
        fits = [
            (found, most)
            for card, most in self._cards.values()
            if (found := self._worker(embedder, precision, card)) is not None
        ]
        return list(IngestCapacity(self.workload, tuple(fits)).plans())

    def _worker(self, embedder: Candidate, precision: str, card: Accelerator) -> Fit | None:
        """Fit one process of an ingest: the embedder, and the multi-vectors' model where wanted."""
        beside = self._beside(card)
        if isinstance(beside, Rejection):
            return self._kept(beside)
        pixels = self.workload.max_pixels
        return self._kept(
            fit(embedder, precision, card, self.profile, beside=beside, pixels=pixels)
        )

    def _beside(self, card: Accelerator) -> Fit | Rejection | None:
        """The model of multi-vectors, which shares a process with the embedder of an ingest."""
        if (late := self.models.late) is None:
            return None
        return fit(late, _wide(card), card, self.profile, budgets=(LATE_BATCH_TOKENS,))

    def _servings(self, embedder: Candidate, precision: str) -> Iterator[ServingPlan]:
        """For each set of kinds of cards the cheapest service, and the quickest."""
        possible: dict[frozenset[str], list[list[Station]]] = {}
        beyond: list[list[Station]] = []
        for stations in self._services(embedder, precision):
            cards = cards_of(stations)
            if all(count <= self._cards[kind][1] for kind, count in cards.items()):
                possible.setdefault(frozenset(cards), []).append(stations)
            else:
                beyond.append(stations)
        for services in possible.values():
            yield serving_plan(self.workload, min(services, key=price_and_time))
            yield serving_plan(self.workload, min(services, key=lambda e: price_and_time(e)[::-1]))
        if beyond and not possible:
            self._note_lack(embedder, precision, beyond)

    def _note_lack(
        self, embedder: Candidate, precision: str, services: list[list[Station]]
    ) -> None:
        """All parts of a service can be had, but not together."""
        least = min(map(cards_of, services), key=lambda cards: sum(cards.values()))
        kinds = " and ".join(f"{count} × {kind}" for kind, count in least.items())
        why = f"all models of the service together need {kinds}, more than there are"
        self._kept(Rejection(embedder.name, precision, next(iter(least)), why))

    def _services(self, embedder: Candidate, precision: str) -> Iterator[list[Station]]:
        """Yield all models of a service on one kind of card, or the reranker on another."""
        others = self._generator_stations
        for split, name, slots in product(self._splits, self._cards, SLOTS):
            first = self._first_stations(embedder, precision, name, slots, split)
            if first and others is not None:
                yield from self._together([*first, *others], name, slots, split)

    def _together(
        self, first: list[Station], name: str, slots: int, split: float
    ) -> Iterator[list[Station]]:
        """The stations of a service: with the reranker on the same kind of card, or on another."""
        seconds = self._second_stations[split]
        if not self._reranks:
            yield first
        elif (name, slots) in seconds:
            yield [*first, seconds[name, slots]]
        for (other, _), each in seconds.items():
            if other != name:
                yield [*first, each]

    def _first_stations(
        self, embedder: Candidate, precision: str, name: str, slots: int, split: float
    ) -> list[Station]:
        """Return the stations of the embedder and what shares its cards; empty where one fails."""
        wanted = [(embedder, precision, split)]
        if self.models.late is not None:
            wanted.append((self.models.late, _wide(self._cards[name][0]), 1 - split))
        if self.workload.uploads == "on" and not self._cards[name][0].is_cpu:
            wanted.append((replace(embedder, role="indexer"), precision, 1.0))
        stations = [self._station(model, each, name, slots, share) for model, each, share in wanted]
        return [] if None in stations else [each for each in stations if each is not None]

    @cached_property
    def _reranks(self) -> bool:
        return bool(self.models.rerankers and self.workload.rerank_k)

    @cached_property
    def _splits(self) -> tuple[float, ...]:
        """Return the embedder's shares of a query's time that are tried."""
        return EMBED_SHARES if self._reranks or self.models.late is not None else (1.0,)

    @cached_property
    def _generator_stations(self) -> list[Station] | None:
        """Return the cheapest that keep up: empty where none is wanted, None where none can."""
        generator = self.models.generator
        if generator is None:
            return []
        stations = [
            each
            for name, slots in product(self._cards, SLOTS)
            for precision in self._precisions(generator)
            if (each := self._station(generator, precision, name, slots, math.inf)) is not None
        ]
        return [min(stations, key=lambda each: each.cost_per_hour)] if stations else None

    @cached_property
    def _second_stations(self) -> dict[float, dict[tuple[str, int], Station]]:
        """By split: the reranker with the fewest replicas on each kind of card and share of it."""
        found: dict[float, dict[tuple[str, int], Station]] = {each: {} for each in self._splits}
        for split, name, slots in product(self._splits, self._cards, SLOTS):
            if not self._reranks:
                continue
            stations = [
                each
                for model in self.models.rerankers
                for precision in self._precisions(model)
                if (each := self._station(model, precision, name, slots, 1 - split)) is not None
            ]
            if stations:
                found[split][name, slots] = min(stations, key=lambda each: each.queue.servers)
        return found

    def _station(
        self, candidate: Candidate, precision: str, name: str, slots: int, share: float
    ) -> Station | None:
        """Replicas with a share of the time that a query may take."""
        card, most = self._cards[name]
        is_late = candidate.role == "late-interaction"
        beside = self._beside(card) if candidate.role == "indexer" else None
        if isinstance(beside, Rejection):
            return self._kept(beside)
        fitted = fit(
            candidate,
            precision,
            card,
            self.profile,
            beside=beside,
            pixels=self.workload.max_pixels,
            slots=slots,
            budgets=(LATE_BATCH_TOKENS if is_late else candidate.max_tokens,),
        )
        within_s = (self.workload.p95 - SEARCH_S) * share
        made = (
            station(self.workload, fitted, slots, most, within_s)
            if isinstance(fitted, Fit)
            else fitted
        )
        if isinstance(made, Rejection) and slots > 1:
            return None  # a whole card may do; where it does not, that is the reason to tell
        return self._kept(made)

    def _kept(self, found: Found | Rejection) -> Found | None:
        """Return the fit; where there is none, note why it was rejected and return None."""
        if isinstance(found, Rejection):
            self._rejected[found.model, found.precision, found.gpu] = found
            return None
        return found

    def _precisions(self, candidate: Candidate) -> list[str]:
        return [each for each in self.workload.precisions if each in candidate.precisions]


def _wide(card: Accelerator) -> str:
    """Return the precision of what is never quantised."""
    return "fp32" if card.is_cpu else "bf16"
