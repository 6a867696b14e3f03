"""One process with one Ray, in which the commands and jobs of many tests run one after the other.

To start Ray and to import what an ingest needs takes longer than most ingests of tests.
"""

import gc
import io
import json
import os
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, chdir, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from unittest.mock import patch

import ray
from typer.testing import CliRunner

from cluster.runtime import ray_session
from cluster.settings import load_settings
from quire import app

TIMEOUT_S = 300.0  # of one command, on a busy machine
IDLE_S = 30.0
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Finished:
    """What a command printed, and how it ended."""

    returncode: int
    stdout: str
    stderr: str


class RayProcess:
    """Starts with its first work, and again with the first after a stop."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def call(self, function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Run a function of a module, which finds Ray up; returns what it returns."""
        if self._pool is None:
            spawn = get_context("spawn")  # Ray must be up before gRPC has threads
            self._pool = ProcessPoolExecutor(1, spawn, initializer=_start)
        try:
            result, is_idle = self._pool.submit(_run, function, arguments, options).result(
                TIMEOUT_S
            )
        except TimeoutError:
            self._kill()
            raise
        if not is_idle:  # what failed may have left workers behind
            self.stop()
        return result  # type: ignore[no-any-return]

    def quire(
        self, *arguments: object, folder: Path, expect: int = 0, **environment: str
    ) -> Finished:
        """Run a command of `quire` in a folder, with its data in quire-data there."""
        # Ray's workers are in another folder: what is relative would be elsewhere for them.
        environment = {"QUIRE_STORE": str(folder / "quire-data"), **environment}
        done = self.call(_quire, list(map(str, arguments)), folder, environment)
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    def quire_json(
        self, *arguments: object, folder: Path, expect: int = 0, **environment: str
    ) -> Any:
        done = self.quire(*arguments, "--json", folder=folder, expect=expect, **environment)
        return json.loads(done.stdout)

    def script(self, code: str, folder: Path) -> str:
        """Run a script in a folder; returns what it printed."""
        return self.call(_script, code, folder)

    def stop(self) -> None:
        """Make room for another Ray."""
        if self._pool:
            self._pool.submit(_RAY.close).result(TIMEOUT_S)
            self._pool.shutdown()
            self._pool = None

    def _kill(self) -> None:
        assert self._pool
        for process in self._pool._processes.values():
            process.kill()
        self._pool = None


_RAY = ExitStack()


def _start() -> None:
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (not behind all else here)
    # Room for the largest ingest of any test.
    _RAY.enter_context(ray_session(load_settings(workers=1, render_workers=2)))


def _run(
    function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Any, bool]:
    result = function(*arguments, **options)
    return result, _is_idle()


def _is_idle() -> bool:
    """Whether every worker of the work that was done is gone, soon."""
    gc.collect()
    deadline = time.monotonic() + IDLE_S
    while time.monotonic() < deadline:
        if ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]:
            return True
        time.sleep(0.05)
    return False


def _quire(arguments: list[str], folder: Path, environment: dict[str, str]) -> Finished:
    with chdir(folder), patch.dict(os.environ, environment):
        done = CliRunner().invoke(app, arguments)
    failure = "".join(traceback.format_exception(done.exception)) if done.exception else ""
    is_exit = isinstance(done.exception, SystemExit)
    return Finished(done.exit_code, done.stdout, done.stderr + ("" if is_exit else failure))


def _script(code: str, folder: Path) -> str:
    out = io.StringIO()
    with chdir(folder), redirect_stdout(out):
        # As __main__ its classes travel to the workers whole.
        exec(compile(code, "script", "exec"), {"__name__": "__main__"})
    return out.getvalue()
