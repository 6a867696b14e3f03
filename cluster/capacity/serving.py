"""The cards of serving: replicas that answer so many queries a second within a time."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from cluster.capacity.fit import Fit, Rejection
from cluster.capacity.formulas import (
    ANSWER_PAGES,
    ANSWER_TOKENS,
    ANSWERS_AT_ONCE,
    BUSY_MOST,
    PAIR_TOKENS,
    QUERY_TOKENS,
    SEARCH_S,
    Queue,
    language_flops,
    page_flops,
)
from cluster.capacity.workload import Workload
from cluster.plan import ServingPlan

TAIL = 0.95
BESIDE = ("indexer", "generator")  # no part of a search


@dataclass(frozen=True)
class Station:
    """Replicas of one model, each on 1/slots of a card, that keep up with the load."""

    fit: Fit
    slots: int
    queue: Queue
    p95_s: float

    @cached_property
    def cards(self) -> int:
        return math.ceil(self.queue.servers / self.slots)

    @cached_property
    def cost_per_hour(self) -> float:
        return self.cards * self.fit.card.price_per_hour


def station(
    workload: Workload, fit: Fit, slots: int, most: int, within_s: float
) -> Station | Rejection:
    """Return the fewest replicas of a model that answer 95 % of the requests within a time."""
    mean_s, slow_s, what = _seconds(workload, fit, slots)
    if fit.candidate.role == "indexer":
        return Station(fit, slots, Queue(1, mean_s, 0.0), 0.0)
    least = max(1, math.ceil(workload.qps * mean_s / BUSY_MOST))
    if slow_s <= within_s:
        for servers in range(least, most * slots + 1):
            queue = Queue(servers, mean_s, workload.qps)
            p95_s = slow_s + queue.wait_quantile_s(TAIL)
            if p95_s <= within_s:
                return Station(fit, slots, queue, p95_s)
        why = f"{workload.qps:g} queries a second need more than {most} × {fit.card.name}"
    else:
        why = f"of {workload.p95:g} s {_short(within_s)} are left for it"
    place = fit.card.name if slots == 1 else f"1/{slots} of the {fit.card.name}"
    return Rejection(
        fit.candidate.name,
        fit.precision,
        fit.card.name,
        f"to {what} takes the {place} {_short(slow_s)} s; {why}",
    )


def _short(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.0f}"


def _seconds(workload: Workload, fit: Fit, slots: int) -> tuple[float, float, str]:
    """Return a request's mean time, that of the slow ones, and what it is."""
    candidate = fit.candidate
    pixels = workload.page_pixels(candidate)
    page = page_flops(candidate.shape, pixels, candidate.prompt_tokens)
    image_s = fit.seconds(page, slots)
    words_s = fit.seconds(language_flops(candidate.shape, QUERY_TOKENS), slots)
    if candidate.role == "reranker":
        pair = page_flops(candidate.shape, pixels, PAIR_TOKENS + candidate.prompt_tokens)
        seconds = fit.seconds(workload.rerank_k * pair, slots)
        what = f"rerank {workload.rerank_k} pages"
        if candidate.always_sees:
            return seconds, seconds, what
        text = language_flops(candidate.shape, PAIR_TOKENS + candidate.prompt_tokens)
        read_s = fit.seconds(workload.rerank_k * text, slots)
        share = workload.screenshots
        return (1 - share) * read_s + share * seconds, max(read_s, seconds), what
    if candidate.role == "indexer":
        return image_s, 0.0, "embed a page"  # beside the queries: nobody waits for it
    if candidate.role == "generator":
        # Each token of an answer reads all weights, for those that are written at once together.
        writing_s = ANSWER_TOKENS * fit.seconds(0.0, slots) / ANSWERS_AT_ONCE
        seconds = fit.seconds(ANSWER_PAGES * page, slots) + writing_s
        return seconds * workload.answers, seconds, "write an answer"
    if candidate.role == "late-interaction":
        return words_s, words_s, "embed the words of a query"
    share = workload.screenshots
    mean_s = (1 - share) * words_s + share * image_s
    if share > 1 - TAIL:
        return mean_s, image_s, "embed a screenshot"
    return mean_s, words_s, "embed the words of a query"


def cards_of(stations: Iterable[Station]) -> dict[str, int]:
    """Cards by kind; replicas with equal shares of one kind fill its cards together."""
    slots: dict[tuple[str, int], int] = {}
    for each in stations:
        place = (each.fit.card.name, each.slots)
        slots[place] = slots.get(place, 0) + each.queue.servers
    cards: dict[str, int] = {}
    for (name, share), used in slots.items():
        cards[name] = cards.get(name, 0) + math.ceil(used / share)
    return cards


def price_and_time(stations: Iterable[Station]) -> tuple[float, float]:
    """Money an hour, and P95 in seconds."""
    stations = list(stations)
    prices = {each.fit.card.name: each.fit.card.price_per_hour for each in stations}
    cost = sum(prices[name] * count for name, count in cards_of(stations).items())
    times = (each.p95_s for each in stations if each.fit.candidate.role not in BESIDE)
    return cost, SEARCH_S + sum(times)


def serving_plan(workload: Workload, stations: Iterable[Station]) -> ServingPlan:
    """Plan one service of these replicas."""
    stations = list(stations)
    in_requests = [each for each in stations if each.fit.candidate.role not in BESIDE]
    on_cpu = {each.fit.card.name for each in stations if each.fit.card.is_cpu}
    cost_per_hour, p95_s = price_and_time(stations)
    return ServingPlan(
        replicas=tuple(
            each.fit.replicas(
                each.queue.servers, 1 / each.queue.service_s, each.queue.busy, slots=each.slots
            )
            for each in stations
        ),
        gpus={name: count for name, count in cards_of(stations).items() if name not in on_cpu},
        qps=workload.qps,
        most_qps=min(each.queue.servers / each.queue.service_s for each in in_requests),
        p95_s=p95_s,
        cost_per_hour=cost_per_hour,
    )
