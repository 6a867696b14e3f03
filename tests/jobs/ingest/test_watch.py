"""What the watch knows of workers that do several things at once, and whom it has replaced."""

import time
from typing import Any

import pytest

from jobs.ingest.watch import Stuck, Watch


@pytest.fixture
def killed() -> list[Any]:
    return []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def begin(watch: Watch, piece: str, *keys: str, name: str = "worker 1") -> None:
    watch.begin(piece, "actor", name, "handle", keys)


def test_one_that_waits_for_another_is_not_stuck(clock: list[float], killed: list[Any]) -> None:
    watch = Watch(10, killed.append)
    begin(watch, "first", "a")
    begin(watch, "second", "b")
    clock[0] = 9
    watch.end("first")
    clock[0] = 18
    assert watch.replace_stuck() == [] and watch.tries(["a", "b"]) == [0, 1]


def test_a_worker_is_replaced_once_and_named_by_what_it_is_stuck_in(
    clock: list[float], killed: list[Any]
) -> None:
    watch = Watch(10, killed.append)
    begin(watch, "first", "a")
    clock[0] = 1
    begin(watch, "second", "b")
    clock[0] = 12
    assert watch.replace_stuck() == [Stuck("worker 1", ("a",), 12)]
    assert killed == ["handle"] and watch.replace_stuck() == []
    assert watch.tries(["a", "b"]) == [1, 1]  # who of them it was, shows when each is alone


def test_what_a_process_that_died_had_begun_is_over(clock: list[float], killed: list[Any]) -> None:
    watch = Watch(10, killed.append)
    begin(watch, "first", "a")
    clock[0] = 8
    begin(watch, "again", "a", name="worker 2")
    clock[0] = 12
    assert watch.replace_stuck() == [] and watch.tries(["a"]) == [2]
    watch.end("again")
    assert watch.tries(["a"]) == [0]
