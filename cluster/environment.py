"""Environment variables and TCP ports: the only place that reads or sets them."""

import atexit
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cluster.errors import InvalidInput

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MIN_PORT, MAX_PORT = 20_000, 32_000  # below those that systems hand out by themselves
PORTS = 100  # of one service: its proxy's pages and its replicas


def read_variables(names: Iterable[str]) -> dict[str, str]:
    """Variables QUIRE_NAME that are set, by `name` in lower case."""
    present = (name for name in names if name in os.environ)
    return {name.removeprefix("QUIRE_").lower(): os.environ[name] for name in present}


def default_environment(**variables: str) -> None:
    """Set environment variables that are not set, for libraries that only read them there."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


# gRPC reads it when it is imported, which is with Milvus' client. Its support of forks wakes its
# threads in each child between fork and exec, where Ray's processes may then hang for ever.
default_environment(GRPC_ENABLE_FORK_SUPPORT="false")


def prepare_serving() -> None:
    """Set what Ray reads when it is imported, where the environment does not say otherwise.

    A call through Ray Serve that does nothing takes 17–32 ms without its proxy in C and 3–4 with.
    By default that proxy's own pages have fixed ports, so that a second service would not come up;
    its sockets are open to everyone on the machine; and the replicas of two services share ports
    (SO_REUSEPORT), so that one would get requests of the other. So each service has its own.
    """
    first = _free_ports(PORTS)
    last = first + PORTS - 1
    folder = Path(tempfile.mkdtemp(prefix="quire-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    default_environment(
        RAY_AUTH_MODE="token",
        # Ray's workers are nice (15) to everyone: searches shall come before what only starts.
        RAY_worker_niceness="0",
        RAY_SERVE_THROUGHPUT_OPTIMIZED="1",
        RAY_SERVE_ENABLE_HA_PROXY="1",
        # A router that dies without a word: another one gets its small requests, which may all be
        # repeated; uploads, which are no idempotent work, are too large for it.
        RAY_SERVE_HAPROXY_RETRY_ON="conn-failure empty-response",
        RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S="3",  # Ray's 30 s suit clouds' balancers
        RAY_SERVE_HAPROXY_CONFIG_FILE_LOC=str(folder / "haproxy.cfg"),
        RAY_SERVE_HAPROXY_SOCKET_PATH=str(folder / "admin.sock"),
        RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH=str(folder / "metrics.sock"),
        RAY_SERVE_HAPROXY_SERVER_STATE_BASE=str(folder),
        RAY_SERVE_HAPROXY_SERVER_STATE_FILE=str(folder / "server-state"),
        RAY_SERVE_HAPROXY_METRICS_PORT=str(first),
        RAY_SERVE_HAPROXY_STATS_PORT=str(first + 1),
        RAY_SERVE_FALLBACK_PROXY_HTTP_PORT=str(first + 2),
        RAY_SERVE_FALLBACK_PROXY_GRPC_PORT=str(first + 3),
        RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT=str(first + 4),
        RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT=str(first + PORTS // 2),
        RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT=str(first + PORTS // 2 + 1),
        RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT=str(last),
    )


def _free_ports(count: int) -> int:
    """The first of so many ports that nobody uses; another one for every process that asks."""
    blocks = (MAX_PORT - MIN_PORT) // count
    for turn in range(blocks):
        first = MIN_PORT + count * ((os.getpid() + turn) % blocks)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise InvalidInput(f"no {count} TCP ports in a row are free on this machine")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def free_port(host: str = LOOPBACK[0]) -> int:
    """Return a TCP port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def child_environment(**extra: str) -> dict[str, str]:
    """Return the environment for a process that we start: ours, plus `extra`."""
    return {**os.environ, **extra}
