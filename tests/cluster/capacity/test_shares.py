"""Shares of GPUs where the settings name none: what is chosen, and what is said not to fit."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.capacity.fit import in_two_processes
from cluster.capacity.formulas import replica_memory
from cluster.capacity.shares import (
    UPLOADS,
    check_gpu_shares,
    choose_shares,
    fits,
    gpu_users,
    with_gpu_shares,
)
from cluster.errors import InvalidInput
from cluster.hardware import accelerators
from cluster.plan import ReplicaMemory
from cluster.settings import Settings, load_settings
from models.registry import registry


def memory_of(embedder: str, reranker: str, precision: str = "bf16") -> dict[str, ReplicaMemory]:
    specs = {
        "embedder": registry.find_spec(embedder),
        "reranker": registry.find_spec(reranker, "reranker"),
    }
    return {
        name: replica_memory(spec.shape, precision, spec.max_tokens) for name, spec in specs.items()
    }


TWO_B = memory_of("qwen3-vl-embedding-2b", "qwen3-vl-reranker-2b")
EIGHT_B = memory_of("qwen3-vl-embedding-8b", "qwen3-vl-reranker-8b")


def shares_of(chosen: Settings) -> tuple[float | None, float | None]:
    return chosen.embedder_replicas.gpus, chosen.reranker_replicas.gpus


@pytest.mark.parametrize(
    ("gpus", "given_", "shares", "most"),
    [
        (1, {}, (0.3333, 0.3333), (1, 1)),  # embedder, reranker, uploads
        (2, {}, (0.5, 1.0), (1, 1)),  # uploads share with the embedder
        (3, {}, (1.0, 1.0), (1, 1)),
        (4, {}, (1.0, 1.0), (1, 1)),
        (4, {"embedder_replicas": {"max_replicas": 4}}, (0.5, 1.0), (4, 1)),
        (2, {"embedder_replicas": {"max_replicas": 16}}, (0.5, 1.0), (1, 1)),
        (1, {"embedder_replicas": {"min_replicas": 2, "max_replicas": 2}}, (0.25, 0.25), (2, 1)),
        (1, {"reranker_replicas": {"gpus": 0}}, (0.5, 0), (1, 1)),
        (1, {"embedder_replicas": {"gpus": 0.25}}, (0.25, 0.5), (1, 1)),
        (2, {"embedder_replicas": {"gpus": 1}, "reranker_replicas": {"gpus": 0}}, (1, 0), (1, 1)),
        (1, {"embedder_replicas": {"gpus": 0}, "gpus_per_worker": 0.5}, (0, 0.5), (1, 1)),
    ],
)
def test_shares_by_the_number_of_gpus(
    gpus: int, given_: dict[str, Any], shares: tuple[float, float], most: tuple[int, int]
) -> None:
    chosen = with_gpu_shares(load_settings(**given_), gpus, {})
    assert shares_of(chosen) == shares
    assert (chosen.embedder_replicas.max_replicas, chosen.reranker_replicas.max_replicas) == most
    assert check_gpu_shares(chosen, gpus) == ""
    users = gpu_users(chosen, at_most=True)
    assert fits(users, {user.name: user.share or 0 for user in users}, gpus)


def test_without_gpus_and_with_every_share_set_nothing_changes() -> None:
    plain = load_settings()
    assert with_gpu_shares(plain, 0, {}) is plain
    both = load_settings(embedder_replicas={"gpus": 0.5}, reranker_replicas={"gpus": 0.25})
    assert with_gpu_shares(both, 1, {}) is both


def test_a_share_of_a_gpu_is_a_share_of_its_memory() -> None:
    chosen = with_gpu_shares(load_settings(), 1, {})
    assert chosen.embedder_replicas.memory_fraction == pytest.approx(0.3, abs=0.01)
    on_two = with_gpu_shares(load_settings(), 2, {})
    assert on_two.reranker_replicas.memory_fraction is None  # all of it
    own = load_settings(embedder_replicas={"memory_fraction": 0.2})
    assert with_gpu_shares(own, 1, {}).embedder_replicas.memory_fraction == 0.2
    h100 = accelerators()["H100"]
    chosen = with_gpu_shares(load_settings(), 1, EIGHT_B, h100)
    fraction = chosen.embedder_replicas.memory_fraction or 0
    assert EIGHT_B["embedder"].allocated <= fraction * h100.memory_bytes
    assert fraction < 0.3333  # the CUDA context lies beside the tensors


def test_a_model_gets_no_less_than_its_memory() -> None:
    mixed = {"embedder": TWO_B["embedder"], "reranker": EIGHT_B["reranker"]}
    card = accelerators()["A100-40GB"]
    chosen = with_gpu_shares(load_settings(), 1, mixed, card)
    embedder, reranker = shares_of(chosen)
    assert embedder and reranker and 2 * embedder + reranker <= 1
    for share, name in ((embedder, "embedder"), (reranker, "reranker")):
        assert share * card.memory_bytes >= mixed[name].total


def test_uploads_that_need_more_widen_the_share_that_they_have_of_the_embedder() -> None:
    card = accelerators()["H100"]
    both = in_two_processes(TWO_B["embedder"], EIGHT_B["embedder"])
    memory = {**TWO_B, UPLOADS: both}
    for gpus in (1, 2):
        share, _ = shares_of(with_gpu_shares(load_settings(), gpus, memory, card))
        assert share and share * card.memory_bytes >= both.total
    small = accelerators()["A10G"]
    with pytest.raises(InvalidInput, match="worker of uploads of"):
        with_gpu_shares(load_settings(), 2, memory, small)


@pytest.mark.parametrize(
    ("gpus", "card", "memory", "given_", "words"),
    [
        (1, "L4", EIGHT_B, {}, ["1 GPU of 22.0 GiB (L4)", "1 × reranker of", "smaller model"]),
        (2, "L4", EIGHT_B, {}, ["2 GPUs", "worker of uploads of"]),
        (
            1,
            "",
            {},
            {"embedder_replicas": {"min_replicas": 4, "max_replicas": 4}},
            ["4 × embedder"],
        ),
        (1, "", {}, {"embedder_replicas": {"gpus": 1}}, ["embedder with 1 GPU", "min_replicas"]),
    ],
)
def test_what_does_not_fit_is_said(
    gpus: int, card: str, memory: dict[str, Any], given_: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        with_gpu_shares(load_settings(**given_), gpus, memory, accelerators().get(card))
    assert all(word in str(caught.value) for word in words), caught.value


def test_shares_that_were_set_are_added_up() -> None:
    both = load_settings(embedder_replicas={"gpus": 0.7}, reranker_replicas={"gpus": 0.7})
    with pytest.raises(InvalidInput, match=r"has 1 GPU, .*embedder 1 × 0.7, reranker 1 × 0.7"):
        check_gpu_shares(both, 1)
    assert "uploads will fail" in check_gpu_shares(both, 2)
    assert check_gpu_shares(both, 3) == ""
    asleep = load_settings(
        embedder_replicas={"gpus": 0.4}, reranker_replicas={"gpus": 0.4, "min_replicas": 0}
    )
    assert "reranker will not start" not in check_gpu_shares(asleep, 1)
    quality = {"gpus": 0.5, "min_replicas": 0}
    settings_ = load_settings(
        embedder_replicas={"gpus": 0.3}, reranker_replicas={"gpus": 0.3}, quality_replicas=quality
    )
    assert "quality will not start" in check_gpu_shares(settings_, 1)


REPLICAS = st.tuples(st.integers(0, 3), st.integers(1, 4)).map(
    lambda pair: {"min_replicas": min(pair), "max_replicas": max(pair)}
)


@given(st.integers(1, 8), REPLICAS, REPLICAS)
@settings(deadline=None)
def test_what_is_chosen_leaves_room_for_uploads(
    gpus: int, embedder: dict[str, int], reranker: dict[str, int]
) -> None:
    asked = load_settings(embedder_replicas=embedder, reranker_replicas=reranker)
    try:
        chosen = with_gpu_shares(asked, gpus, {})
    except InvalidInput:
        assert choose_shares(gpu_users(asked), gpus) is None
        return
    users = gpu_users(chosen, at_most=True)
    assert users[-1].name == UPLOADS
    assert fits(users, {user.name: user.share or 0 for user in users}, gpus)
    for name in ("embedder_replicas", "reranker_replicas"):
        before, after = getattr(asked, name), getattr(chosen, name)
        assert before.min_replicas <= after.max_replicas <= before.max_replicas
