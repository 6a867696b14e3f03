"""Ray Data as jobs here use it: quiet, with bounded restarts, and our own errors as they were."""

import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import RayTaskError

from cluster.errors import QuireError

WAITING_CPUS = 0.25  # what Ray reserves for a worker that mostly waits
WORKER_RESTARTS = 3


def batches(build: Callable[[], Any]) -> Iterator[Any]:
    """Run the dataset that `build` makes; yields its batches as they are done.

    Raises what a stage raised.
    """
    context = ray.data.DataContext.get_current()  # a dataset keeps what it finds when it is made
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it logs what it also raises
    try:
        yield from build().iter_batches(batch_size=None, prefetch_batches=0)
    except RayTaskError as error:
        # Ray wraps what a stage raised, and adds to its text: the caller shall see our own words.
        if isinstance(error.cause, QuireError):
            raise type(error.cause)(str(error.cause).split("\nFailed to apply UDF")[0]) from None
        raise


def stage(
    dataset: Any,
    kind: type,
    context: Any,
    *,
    workers: int,
    batch_size: int,
    num_cpus: float = WAITING_CPUS,
    num_gpus: float | None = None,
    **options: Any,
) -> Any:
    """Pass batches through `workers` actors, each a `kind(context)`; `options` are Ray's."""
    warnings.filterwarnings(
        "ignore", message="`ray_remote_args_fn`"
    )  # gone in Ray 2.64; no replacement
    return dataset.map_batches(
        kind,
        fn_constructor_args=(context,),
        compute=ray.data.ActorPoolStrategy(size=workers),
        batch_size=batch_size,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        **options,
        # Ray's own default is to restart for ever, even on work that kills every worker.
        ray_remote_args_fn=_bounded_restarts,
    )


def _bounded_restarts() -> dict[str, int]:
    return {"max_restarts": WORKER_RESTARTS, "max_task_retries": WORKER_RESTARTS}
