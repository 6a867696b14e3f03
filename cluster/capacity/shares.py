"""Shares of GPUs for `quire serve` where its settings name none: everything runs, uploads too.

A share is what Ray reserves of one GPU. Equal shares are the rule: a GPU that three replicas need
is shared by three. Where room is left, a deployment gets a larger share.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.deployments import DEPLOYMENTS, DeploymentSpec
from cluster.errors import InvalidInput
from cluster.hardware import Accelerator
from cluster.plan import ReplicaMemory
from cluster.settings import GIB, Settings

MAX_SLOTS = 4  # replicas on one GPU, unless the settings name smaller shares
UNKNOWN_CONTEXT = 0.1  # of a share whose card is not known: what CUDA takes beside the tensors
UPLOADS = "uploads"
Shares = dict[str, float]


@dataclass(frozen=True)
class GpuUser:
    """Replicas that hold a share of a GPU each; `share` None: to be chosen, at least `least`."""

    name: str
    replicas: int
    share: float | None
    least: float = 0.0


def with_gpu_shares(
    settings: Settings,
    gpus: int,
    memory: Mapping[str, ReplicaMemory],
    card: Accelerator | None = None,
) -> Settings:
    """Return the settings with a share, and that share of memory, for each deployment without one.

    All of `max_replicas` get room where that is possible, else as many as fit; the worker that
    embeds uploads always does. memory: of a replica of each deployment, by name, and of
    "uploads" where that worker needs more than an embedder. card: the kind of
    all GPUs, where it is known. Raises InvalidInput where `min_replicas` do not fit.
    """
    if not gpus or all(_share(spec, settings) is not None for spec in DEPLOYMENTS):
        return settings
    users = gpu_users(settings, memory, card, at_most=True)
    shares = choose_shares(users, gpus)
    if shares is None:
        users = gpu_users(settings, memory, card)
        shares = choose_shares(users, gpus)
        if shares is None:
            raise InvalidInput(_why_not(settings, users, gpus, memory, card))
        users = _grown(users, shares, gpus, settings)
    changes: dict[str, Any] = {}
    for spec in DEPLOYMENTS:
        scaling = spec.scaling(settings)
        if scaling.gpus is not None or spec.settings_field not in Settings.model_fields:
            continue
        share = shares[spec.name]
        room = sum(user.replicas for user in users if user.name == spec.name)
        update: dict[str, Any] = {
            "gpus": share,
            "max_replicas": min(scaling.max_replicas, room),
        }
        if scaling.memory_fraction is None and share < 1:
            update["memory_fraction"] = _memory_fraction(share, memory.get(spec.name), card)
        changes[spec.settings_field] = scaling.model_copy(update=update)
    return settings.model_copy(update=changes)


def gpu_users(
    settings: Settings,
    memory: Mapping[str, ReplicaMemory] | None = None,
    card: Accelerator | None = None,
    *,
    at_most: bool = False,
) -> list[GpuUser]:
    """Return what takes GPUs: each deployment's fewest or most replicas, and the uploads' worker.

    The worker embeds with the embedder's share; where the embedder has none, with gpus_per_worker.
    """

    def least(*names: str) -> float:
        needed = [memory[name].total for name in names if memory and name in memory]
        return math.ceil(1e4 * max(needed) / card.memory_bytes) / 1e4 if needed and card else 0.0

    users = []
    for spec in DEPLOYMENTS:
        scaling = spec.scaling(settings)
        replicas = scaling.max_replicas if at_most else max(1, scaling.min_replicas)
        alike = (spec.name, UPLOADS) if spec.name == "embedder" else (spec.name,)
        users.append(GpuUser(spec.name, replicas, _share(spec, settings), least(*alike)))
    embedder = next(user for user in users if user.name == "embedder")
    share = settings.gpus_per_worker if embedder.share == 0 else embedder.share
    return [*users, GpuUser(UPLOADS, 1, share, embedder.least)]


def choose_shares(users: Sequence[GpuUser], gpus: int) -> Shares | None:
    """Return a share for each user, the embedder's for uploads too; None where they do not fit."""
    if any(user.share is None and user.least > 1 for user in users):
        return None
    for slots in range(1, MAX_SLOTS + 1):
        shares = {user.name: _at_least(user, 1 / slots) for user in users}
        if fits(users, shares, gpus):
            break
    else:
        return None
    for user in reversed(users):
        if user.share is not None or user.name == UPLOADS:
            continue
        for fewer in range(1, slots):
            larger = shares | {user.name: _at_least(user, 1 / fewer)}
            if user.name == "embedder":
                larger[UPLOADS] = larger[user.name]
            if fits(users, larger, gpus):
                shares = larger
                break
    return shares


def fits(users: Iterable[GpuUser], shares: Mapping[str, float], gpus: int) -> bool:
    """True where every replica finds its share on one GPU, or whole GPUs where it needs more."""
    free = [1.0] * gpus
    wanted = sorted(
        (shares[user.name] for user in users for _ in range(user.replicas)), reverse=True
    )
    for share in wanted:
        for _ in range(math.ceil(share) if share > 1 else 1):
            part = min(share, 1.0)
            place = next((at for at, room in enumerate(free) if room + 1e-6 >= part), None)
            if place is None:
                return not part
            free[place] -= part
    return True


def check_gpu_shares(settings: Settings, gpus: int) -> str:
    """Raise InvalidInput where what starts would wait for GPUs for ever.

    Returns what will not work although the service comes up; "" where everything will.
    """
    users = gpu_users(settings)
    shares = {user.name: 1.0 if user.share is None else user.share for user in users}
    lowest = {spec.name: spec.scaling(settings).min_replicas for spec in DEPLOYMENTS}
    at_start = [replace(user, replicas=lowest.get(user.name, 0)) for user in users]
    if not fits(at_start, shares, gpus):
        parts = [
            f"{user.name} {user.replicas} × {shares[user.name]:g}"
            for user in at_start
            if user.replicas and shares[user.name]
        ]
        raise InvalidInput(
            f"this Ray has {_gpus(gpus)}, and what is to start asks for more: {', '.join(parts)}. "
            "Lower `gpus` or `min_replicas` of a deployment (embedder_replicas.gpus and so on), or "
            "leave `gpus` out, and shares are chosen"
        )
    for user in users:
        is_there = user.name == UPLOADS or not lowest[user.name]
        woken = [replace(user, replicas=1), *(each for each in at_start if each.replicas)]
        if is_there and shares[user.name] and not fits(woken, shares, gpus):
            what = "uploads will fail" if user.name == UPLOADS else f"{user.name} will not start"
            return (
                f"{what}: no GPU has {shares[user.name]:g} left for it beside what runs: lower "
                "embedder_replicas.gpus, or leave `gpus` of all deployments out"
            )
    return ""


def _share(spec: DeploymentSpec, settings: Settings) -> float | None:
    """Return the share that is set; None where it is to be chosen."""
    share = spec.scaling(settings).gpus
    if share is None and spec.settings_field not in Settings.model_fields:
        return 1.0  # nobody can set one
    return share


def _at_least(user: GpuUser, share: float) -> float:
    if user.share is not None:
        return user.share
    return max(math.floor(1e4 * share) / 1e4, user.least)


def _grown(users: list[GpuUser], shares: Shares, gpus: int, settings: Settings) -> list[GpuUser]:
    """Return as many replicas of each deployment as fit, up to `max_replicas`."""
    for spec in DEPLOYMENTS:
        for _ in range(spec.scaling(settings).max_replicas):
            more = [
                replace(user, replicas=user.replicas + 1) if user.name == spec.name else user
                for user in users
            ]
            if not fits(more, shares, gpus):
                break
            users = more
    return users


def _memory_fraction(share: float, needed: ReplicaMemory | None, card: Accelerator | None) -> float:
    """Return the part of a GPU's memory for tensors: a share without its CUDA context."""
    if needed is None or card is None:
        return math.floor(1e4 * share * (1 - UNKNOWN_CONTEXT)) / 1e4
    return math.floor(1e4 * (share - needed.context / card.memory_bytes)) / 1e4


def _why_not(
    settings: Settings,
    users: Iterable[GpuUser],
    gpus: int,
    memory: Mapping[str, ReplicaMemory],
    card: Accelerator | None,
) -> str:
    """Say what does not fit, and what to change."""
    titles = {spec.name: spec.title for spec in DEPLOYMENTS} | {UPLOADS: "worker of uploads"}
    parts = []
    for user in users:
        if user.share == 0:
            continue
        size = memory.get(user.name, memory.get("embedder" if user.name == UPLOADS else ""))
        needs = f" of {size.total / GIB:.1f} GiB" if size and card and user.share is None else ""
        share = "" if user.share is None else f" with {user.share:g} GPU"
        parts.append(f"{user.replicas} × {titles[user.name]}{needs}{share}")
    has = f"{_gpus(gpus)}{f' of {card.memory_bytes / GIB:.1f} GiB ({card.name})' if card else ''}"
    return (
        f"this Ray has {has}, which cannot hold {', '.join(parts)}: choose a smaller model or "
        "precision, lower min_replicas or the `gpus` that are set, or move the reranker to the CPU "
        "(reranker_replicas.gpus: 0) and say --rerank none"
    )


def _gpus(number: int) -> str:
    return f"{number} GPU{'s' if number != 1 else ''}"
