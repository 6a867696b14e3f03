"""What the service counts, under the names that dashboards expect; Ray gathers it on every node.

Every process adds to the same series; `scrape` brings a cluster's together as Prometheus text.
"""

import asyncio
import re
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http.client import HTTPException
from typing import Any

import ray
from ray.util import metrics

SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30]
TOKENS = [64.0, 256.0, 1024.0, 4096.0, 16_384.0]
NODE_TIMEOUT_S = 3.0
SCRAPE_TIMEOUT_S = 5.0  # of all nodes together; Prometheus itself waits for 10 s
SCRAPE_THREADS = 32
OURS = "ray_quire_"  # Ray puts its name before ours
PASSED_ON = (OURS, "ray_serve_")
# Labels that Ray adds and that say nothing; those of node and worker keep series apart.
_NOISE = re.compile(r'\b(otel_scope_\w+|SessionName|Version|Component)="[^"]*",?')


class Metrics:
    """Counters, gauges and histograms; safe from any thread."""

    def __init__(self) -> None:
        self.requests = metrics.Counter(
            "quire_requests_total", "Requests answered.", ("route", "method", "status")
        )
        self.request_seconds = metrics.Histogram(
            "quire_request_seconds", "Time to answer a request.", SECONDS, ("route",)
        )
        self.stage_seconds = metrics.Histogram(
            "quire_stage_seconds", "Time of one stage of a search.", SECONDS, ("stage",)
        )
        self.queue_depth = metrics.Gauge(
            "quire_queue_depth", "Inputs that wait for a batch.", ("deployment",)
        )
        self.batch_tokens = metrics.Histogram(
            "quire_batch_tokens", "Tokens computed in one batch.", TOKENS, ("deployment",)
        )
        self.padding_share = metrics.Gauge(
            "quire_batch_padding_share", "Share of padding in the last batch.", ("deployment",)
        )
        self.refused = metrics.Counter(
            "quire_refused_total", "Inputs refused because the queue was full.", ("deployment",)
        )
        self.out_of_memory = metrics.Counter(
            "quire_out_of_memory_total", "Batches for which memory ran out.", ("deployment",)
        )
        self.pages_indexed = metrics.Counter("quire_pages_indexed_total", "Pages indexed by jobs.")
        self.jobs = metrics.Counter("quire_jobs_total", "Jobs that ended.", ("status",))


@cache
def service_metrics() -> Metrics:
    """Return the metrics of this process."""
    return Metrics()


def count_out_of_memory(deployment: str) -> None:
    """Memory ran out in a replica of this deployment."""
    service_metrics().out_of_memory.inc(1, {"deployment": deployment})


async def scrape() -> str:
    """Quire's and Ray Serve's metrics of every node, as Prometheus text, ours by our own names."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node.get("MetricsExportPort")]
    texts = await ask_nodes(nodes)
    seen: dict[str, None] = {}  # of several nodes, HELP and TYPE once
    for text in texts:
        for line in text.splitlines():
            name = line.split(" ", 3)[2] if line.startswith("# ") else line
            if name.startswith(PASSED_ON):
                line = _NOISE.sub("", line)
                seen[line.replace(OURS, OURS.removeprefix("ray_"), 1)] = None
    return "\n".join(seen) + "\n"


async def ask_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what nodes export, side by side, on threads of their own and within a time limit.

    A comment stands for a node that did not answer in time.
    """
    loop = asyncio.get_running_loop()
    calls = {loop.run_in_executor(_threads(), _node_metrics, node): node for node in nodes}
    if not calls:
        return []
    done, late = await asyncio.wait(calls, timeout=SCRAPE_TIMEOUT_S)
    for call in late:
        call.cancel()
    return [call.result() if call in done else _silence(_host(calls[call])) for call in calls]


@cache
def _threads() -> ThreadPoolExecutor:
    """No search waits behind nodes that do not answer."""
    return ThreadPoolExecutor(SCRAPE_THREADS, thread_name_prefix="scrape")


def _node_metrics(node: Mapping[str, Any]) -> str:
    url = f"http://{_host(node)}:{node['MetricsExportPort']}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=NODE_TIMEOUT_S) as response:
            return str(response.read().decode())
    except (OSError, HTTPException):
        return _silence(_host(node))


def _host(node: Mapping[str, Any]) -> str:
    host = str(node["NodeManagerAddress"])
    return f"[{host}]" if ":" in host else host


def _silence(host: str) -> str:
    return f"# the metrics agent of {host} does not answer\n"
