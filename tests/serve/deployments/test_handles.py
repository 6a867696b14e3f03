"""Calls between deployments when replicas die, stop, refuse or are too slow."""

import asyncio
import time
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.serve.exceptions import BackPressureError

from cluster.errors import DeadlineExceeded, InvalidInput, ModelUnavailable, Overloaded
from serve.deployments.handles import ATTEMPTS, EmbedderHandle, Handle


class Deployment:
    """Answers each call with the next of its answers: a value, an error, or seconds of silence."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return self

    async def remote(self, *args: Any, **more: Any) -> Any:
        self.calls.append(args)
        answer = self.answers.pop(0)
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def stopped() -> AioRpcError:
    """What a call ends with whose replica stops while it works."""
    return AioRpcError(StatusCode.CANCELLED, Metadata(), Metadata(), "stopping")


def ask(deployment: Deployment, timeout_s: float = 5) -> Any:
    return asyncio.run(Handle("model", deployment).call("work", 1, timeout_s=timeout_s))


@pytest.mark.parametrize(
    "error",
    [RayActorError(), ActorUnavailableError("x", b"1" * 16), stopped(), asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)
def test_another_replica_is_asked_where_one_is_gone(error: BaseException) -> None:
    deployment = Deployment(error, error, "answer")
    assert ask(deployment) == "answer"
    assert deployment.calls == [(1,)] * 3
    with pytest.raises(ModelUnavailable, match="try again"):
        ask(Deployment(*[error] * ATTEMPTS))


def test_our_own_errors_come_as_they_were_and_are_not_repeated() -> None:
    deployment = Deployment(InvalidInput("too long"), "answer")
    with pytest.raises(InvalidInput, match="too long"):
        ask(deployment)
    assert len(deployment.calls) == 1


def test_a_full_queue_is_a_refusal() -> None:
    with pytest.raises(Overloaded) as refusal:
        ask(Deployment(BackPressureError(1, 1)))
    assert refusal.value.retry_after_s >= 1


def test_a_slow_replica_meets_the_deadline() -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        ask(Deployment(30.0), timeout_s=0.1)
    assert time.monotonic() - started < 5


def test_our_own_cancelling_goes_on() -> None:
    async def run() -> None:
        deployment = Deployment(30.0, "answer")
        task = asyncio.create_task(Handle("model", deployment).call("work", timeout_s=60))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(deployment.calls) == 1

    asyncio.run(run())


def test_a_model_is_told_how_long_it_may_take() -> None:
    deployment = Deployment("vectors")
    asyncio.run(EmbedderHandle("embedder", deployment).embed([], 7.0))
    assert deployment.calls == [([], 7.0)]
