"""One model in one precision on one kind of card: does it fit, with which batches, how fast."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.capacity.formulas import (
    ANSWERS_AT_ONCE,
    EFFICIENCY,
    LAUNCH_S,
    PRECISIONS,
    SPEED,
    replica_memory,
)
from cluster.capacity.profile import Profile
from cluster.capacity.workload import Candidate
from cluster.hardware import Accelerator
from cluster.plan import ReplicaMemory, Replicas
from cluster.settings import GIB

# Budgets to try, largest first.
BATCH_TOKENS = (32_768, 16_384, 8192)


@dataclass(frozen=True)
class Rejection:
    """What cannot be, and why."""

    model: str
    precision: str
    gpu: str
    reason: str


@dataclass(frozen=True)
class Fit:
    """A model that fits; `efficiency` is the share of the card's peak that it reaches.

    `fits`: replicas that the card's memory would hold with the smallest batches.
    """

    candidate: Candidate
    precision: str
    card: Accelerator
    batch_tokens: int
    memory: ReplicaMemory
    efficiency: float
    measured: bool
    fits: int
    beside: "Fit | None" = None

    @property
    def flops_per_s(self) -> float:
        """Return the speed of a whole card."""
        return self.card.tflops(self.precision) * 1e12 * self.efficiency

    def seconds(self, flops: float, slots: int = 1) -> float:
        """Time of one batch on 1/slots of the card; to read the weights once is the least."""
        reading = self.memory.weights / (self.card.bandwidth_gb_s * 1e9)
        return max(flops / self.flops_per_s, reading) * slots + LAUNCH_S

    def replicas(self, count: int, per_s: float, busy: float, *, slots: int = 1) -> Replicas:
        """So many of it, each on 1/slots of a card."""
        on_card = not self.card.is_cpu
        share = math.floor(1e4 / slots) / 1e4
        # The context lies outside of the allocator; the rest of its share is the replica's own.
        fraction = math.floor(1e4 * (share - self.memory.context / self.card.memory_bytes)) / 1e4
        return Replicas(
            role=self.candidate.role,
            model=self.candidate.name,
            precision=self.precision,
            gpu=self.card.name if on_card else "",
            count=count,
            gpu_share=share if on_card else 0.0,
            memory_fraction=fraction if on_card else 0.0,
            batch_tokens=self.batch_tokens,
            memory=self.memory,
            fits=self.fits,
            per_s=per_s,
            busy=busy,
            measured=self.measured,
        )


def fit(
    candidate: Candidate,
    precision: str,
    card: Accelerator,
    profile: Profile,
    *,
    beside: Fit | None = None,
    pixels: int = 0,
    slots: int = 1,
    budgets: Sequence[int] = BATCH_TOKENS,
) -> Fit | Rejection:
    """Return the largest of the batch budgets that leaves a replica within 1/slots of a card.

    Budgets below the longest input count as that. `beside`: another model on the same card.
    """
    if card.is_cpu and precision != "fp32":
        return Rejection(candidate.name, precision, card.name, "CPUs compute in fp32 only")
    room = card.memory_bytes // slots
    tried = dict.fromkeys(max(each, candidate.max_tokens) for each in budgets)
    least = _memory(candidate, precision, card, profile, min(tried), beside)
    for batch_tokens in tried:
        memory = _memory(candidate, precision, card, profile, batch_tokens, beside)
        if memory.total <= room:
            key = (card.name, candidate.shape.size, precision)
            efficiency = profile.efficiency(*key, pixels or candidate.max_pixels)
            return Fit(
                candidate,
                precision,
                card,
                batch_tokens,
                memory,
                efficiency or EFFICIENCY * SPEED[precision],
                efficiency is not None and (beside is None or beside.measured),
                card.memory_bytes // least.total,
                beside,
            )
    reason = _why_not(candidate, precision, card, memory, slots)
    return Rejection(candidate.name, precision, card.name, reason)


def _memory(
    candidate: Candidate,
    precision: str,
    card: Accelerator,
    profile: Profile,
    batch_tokens: int,
    beside: Fit | None,
) -> ReplicaMemory:
    cached = ANSWERS_AT_ONCE * batch_tokens if candidate.role == "generator" else 0
    memory = replica_memory(candidate.shape, precision, batch_tokens, cached_tokens=cached)
    ratio = profile.memory_ratio(card.name, candidate.shape.size, precision)
    memory = replace(
        memory, vision=int(memory.vision * ratio), language=int(memory.language * ratio)
    )
    return in_two_processes(memory, beside.memory) if beside else memory


def in_two_processes(memory: ReplicaMemory, other: ReplicaMemory) -> ReplicaMemory:
    """Memory of two models on one card, each in a process: both may be at their peak at once."""
    activations = memory.activations + other.activations
    return ReplicaMemory(
        weights=memory.weights + other.weights,
        context=memory.context + other.context,
        vision=activations,
        language=activations,
        workspace=memory.workspace + other.workspace,
        reserve=memory.reserve + other.reserve,
    )


def _why_not(
    candidate: Candidate, precision: str, card: Accelerator, memory: ReplicaMemory, slots: int
) -> str:
    place = f"{gib(card.memory_bytes)} GiB" if slots == 1 else f"1/{slots} of a card"
    words = f"needs {in_words(memory)}; the {card.name} has {place}"
    for narrower in PRECISIONS[PRECISIONS.index(precision) + 1 :]:
        if narrower not in candidate.precisions:
            continue
        other = replica_memory(candidate.shape, narrower, candidate.max_tokens)
        if other.total <= card.memory_bytes // slots:
            return f"{words}. {narrower} fits: {in_words(other)}"
    return words


def in_words(memory: ReplicaMemory) -> str:
    """ "15.2 GiB of weights + 3.1 activations + …"."""
    rest = memory.workspace + memory.reserve
    cache = f"{gib(memory.cache)} of KV cache + " if memory.cache else ""
    return (
        f"{gib(memory.weights)} GiB of weights + {cache}{gib(memory.activations)} of activations + "
        f"{gib(memory.context)} of context + {gib(rest)} of workspace and reserve = "
        f"{gib(memory.total)}"
    )


def gib(count: float) -> str:
    return f"{count / GIB:.1f}"
