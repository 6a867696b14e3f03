"""Ray Data as jobs here use it: quiet, can be stopped, and our own errors as they were."""

import logging
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import QuireError

WAITING_CPUS = 0.25  # what Ray reserves for a worker that mostly waits
WORKER_RESTARTS = 3
ASK_TIMEOUT_S = 60.0
STOP_S = 8.0
LOOK_S = 0.5  # between two calls of `watch` while nothing arrives


class WorkersLost(QuireError):
    """Ray lost workers or machines, and what they worked on with them."""


def batches(build: Callable[[], Any], watch: Callable[[], None] = lambda: None) -> Iterator[Any]:
    """Run the dataset that `build` makes; yields its batches as they are done.

    `watch` is called twice a second, and may raise to stop the run, as closing the iterator does.
    Raises what a stage raised, or WorkersLost.
    """
    context = ray.data.DataContext.get_current()  # a dataset keeps what it finds when it is made
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it logs what it also raises
    run = _Run(build())
    try:
        yield from run.batches(watch)
    except RayTaskError as error:
        # Ray wraps what a stage raised, and adds to its text: the caller shall see our own words.
        if isinstance(error.cause, QuireError):
            raise type(error.cause)(str(error.cause).split("\nFailed to apply UDF")[0]) from None
        if isinstance(error.cause, RayError):
            raise WorkersLost(_first_line(error.cause)) from error
        raise
    except RayError as error:
        raise WorkersLost(_first_line(error)) from error
    finally:
        run.stop()


class _Run:
    """One execution of a dataset, consumed by a thread, so that waiting for it can end."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._results: queue.Queue[Any] = queue.Queue(maxsize=4)
        self._stopped = threading.Event()
        self._others = set(_executors())
        self._thread = threading.Thread(target=self._consume, name="ray-data", daemon=True)

    def batches(self, watch: Callable[[], None]) -> Iterator[Any]:
        self._thread.start()
        next_look = 0.0
        while True:
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + LOOK_S
                watch()
            try:
                result = self._results.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if result is None:
                return
            if isinstance(result, BaseException):
                raise result
            yield result

    def stop(self) -> None:
        """End the execution, with its workers, wherever they are."""
        self._stopped.set()
        deadline = time.monotonic() + STOP_S
        while self._thread.is_alive() and time.monotonic() < deadline:
            # Ray has no public way to stop one, and it may be about to begin.
            for executor in set(_executors()) - self._others:
                executor.shutdown(force=True)
            self._thread.join(LOOK_S)

    def _consume(self) -> None:
        try:
            for batch in self._dataset.iter_batches(batch_size=None, prefetch_batches=0):
                if not self._hand_over(batch):
                    return
            self._hand_over(None)
        except BaseException as error:  # noqa: BLE001 — it belongs to the one who waits
            self._hand_over(error)

    def _hand_over(self, result: Any) -> bool:
        while not self._stopped.is_set():
            try:
                self._results.put(result, timeout=LOOK_S)
            except queue.Full:
                continue
            return True
        return False


def _executors() -> list[Any]:
    """Return the executions of datasets that run in this process: each is a thread."""
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

    return [each for each in threading.enumerate() if isinstance(each, StreamingExecutor)]


def stage(
    dataset: Any,
    kind: type,
    context: Any,
    *,
    workers: int,
    batch_size: int,
    calls: int = 1,
    num_cpus: float = WAITING_CPUS,
    num_gpus: float | None = None,
    restarts: int = WORKER_RESTARTS,
    **options: Any,
) -> Any:
    """Pass batches through `workers` actors, each a `kind(context)`; `options` are Ray's.

    An actor is called with `calls` batches at once, each on a thread.
    A worker that ends is started again up to `restarts` times, and does again what it had in its
    hands; with -1 for ever, for stages that see for themselves that no work ends every worker.
    """
    warnings.filterwarnings(
        "ignore", message="`ray_remote_args_fn`"
    )  # gone in Ray 2.64; no replacement
    bound = {"max_restarts": restarts, "max_task_retries": restarts}
    return dataset.map_batches(
        kind,
        fn_constructor_args=(context,),
        compute=ray.data.ActorPoolStrategy(
            size=workers,
            max_concurrent_calls_per_actor=calls,
            enable_true_multi_threading=calls > 1,
        ),
        batch_size=batch_size,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        **options,
        ray_remote_args_fn=lambda: bound,
    )


def beside_the_driver(kind: type) -> Any:
    """Return a class as an actor on this machine that reserves nothing."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(kind).options(num_cpus=0, scheduling_strategy=here)


def ask(reference: Any) -> Any:
    """Return what an actor answers. Raises WorkersLost where it does not."""
    try:
        return ray.get(reference, timeout=ASK_TIMEOUT_S)
    except RayError as error:
        raise WorkersLost(_first_line(error)) from error


def end_actor(handle: Any) -> None:
    """End an actor that is not needed any more."""
    ray.kill(handle)


def kill_worker(handle: Any) -> None:
    """End a worker whatever it does; Ray starts it again."""
    ray.kill(handle, no_restart=False)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
