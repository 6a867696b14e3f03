"""The watch of an ingest on Ray: one small actor beside the driver, asked from every worker."""

from collections.abc import Sequence
from typing import Any

import ray

from jobs.ingest.watch import Stuck, Watch
from jobs.ray_data import ask, beside_the_driver, end_actor, kill_worker


class WatchActor:
    """Asks the watch of an actor; travels to the workers."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def worker(self) -> tuple[str, Any]:
        """Return the id and the handle of the actor that this worker is."""
        context = ray.get_runtime_context()
        return context.get_actor_id() or "", context.current_actor

    def begin(
        self,
        piece: str,
        actor: str,
        name: str,
        handle: Any,
        keys: Sequence[str],
        factor: float = 1,
    ) -> None:
        """Enter what a worker begins, before it does: one that ends in it must be known."""
        ray.get(self._actor.begin.remote(piece, actor, name, handle, keys, factor))

    def touch(self, actor: str) -> None:
        self._actor.touch.remote(actor)

    def tries(self, keys: Sequence[str]) -> list[int]:
        tries: list[int] = ray.get(self._actor.tries.remote(keys))
        return tries

    def end(self, piece: str) -> None:
        self._actor.end.remote(piece)

    def replace_stuck(self) -> list[Stuck]:
        """Kill the workers that are stuck. Raises WorkersLost where the actor does not answer."""
        stuck: list[Stuck] = ask(self._actor.replace_stuck.remote())
        return stuck

    def claim(self, claims: Sequence[tuple[str, str]]) -> list[str]:
        claimed: list[str] = ray.get(self._actor.claim.remote(claims))
        return claimed

    def sources(self) -> dict[str, str]:
        """Return the source of every document that was claimed. Raises WorkersLost."""
        sources: dict[str, str] = ask(self._actor.sources.remote())
        return sources

    def add_chunks(self, counts: Sequence[tuple[str, str, int]]) -> list[int]:
        totals: list[int] = ray.get(self._actor.add_chunks.remote(counts))
        return totals

    def close(self) -> None:
        """End the actor."""
        end_actor(self._actor)


def start_watch(limit_s: float) -> WatchActor:
    """Start the actor; it lives as long as its handle."""
    return WatchActor(beside_the_driver(Watch).remote(limit_s, kill_worker))
