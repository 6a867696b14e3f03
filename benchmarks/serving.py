"""The online service under load, failures and updates.

    python -m benchmarks.serving [--pages 1000] [--only overhead,batching,…] [--json]

A temporary store is filled with synthetic pages (as benchmarks.store has them) and served as
`quire serve` does. Clients run in a process of their own. Sections: overhead (the router against
the same search in-process), batching, latency, overload, kills, update, autoscaling, outage.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.load import Load, Outcome
from benchmarks.store import fill, rows_of_page
from cluster.deployments import ModelScaling
from cluster.environment import free_port, prepare_serving
from cluster.settings import Settings, load_settings
from cluster.store.milvus import open_store

CLIENTS = (1, 16, 64)
STEADY_S = 15.0
OVERLOAD_S = 60.0
OVERLOAD_FACTOR = 10
NORMAL_CLIENTS = 4  # keep it busy, and none of them is refused
KILL_EVERY_S, KILLS_S, KILL_CLIENTS = 15.0, 150.0, 10
OUTAGE_S = 30.0
BURST_CLIENTS = 48
BURST_S = 45.0
CONSOLE = Console()


@dataclass
class Measurement:
    """One measured fact, and whether it is what was promised (None: nothing was)."""

    section: str
    what: str
    measured: str
    held: bool | None = None


class Service:
    """The running service, and ways to load and to hurt it."""

    def __init__(self, url: str, settings: Settings, queries: list[str]) -> None:
        self.url = url
        self.settings = settings
        self.queries = queries
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def searches(self, **options: Any) -> list[dict[str, Any]]:
        return [{"text": text, "rerank": "none", **options} for text in self.queries]

    def texts(self) -> list[dict[str, Any]]:
        # base64 is what the OpenAI client asks for by itself
        return [{"input": text, "encoding_format": "base64"} for text in self.queries]

    def closed(self, bodies: list[Any], clients: int, seconds: float, **options: Any) -> Outcome:
        return self.start_closed(bodies, clients, seconds, **options).result()

    def start_closed(
        self, bodies: list[Any], clients: int, seconds: float, **options: Any
    ) -> "Future[Outcome]":
        route = "/v1/embeddings" if "input" in bodies[0] else "/v1/search"
        return self._pool.submit(
            _closed, self.url + route, bodies, clients, seconds, options.get("retries", 0)
        )

    def start_open(
        self, bodies: list[Any], per_s: float, seconds: float, retries: int = 0
    ) -> "Future[Outcome]":
        return self._pool.submit(_open, self.url + "/v1/search", bodies, per_s, seconds, retries)

    def update(self, **changes: Any) -> None:
        """Deploy the application anew, with other settings, while it runs."""
        from ray import serve

        from serve.app import APP, LOGGING, application

        self.settings = self.settings.model_copy(update=changes)
        app = application(self.settings, is_local=True)
        serve.run(app, name=APP, route_prefix="/", logging_config=LOGGING)
        self.wait_until_ready()

    def wait_until_ready(self, limit_s: float = 90) -> float:
        """Seconds until /readyz says so."""
        started = time.monotonic()
        while time.monotonic() - started < limit_s:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return time.monotonic() - started
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        return float("inf")

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """The processes of a deployment's replicas."""
        name = f"ray::ServeReplica:quire:{deployment}"
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if " ".join(process.info["cmdline"] or ()).startswith(name):
                found.append(process)
        return found

    def memory_mib(self) -> float:
        """Resident memory of all replicas."""
        parts = ("router", "embedder", "reranker", "indexer")
        return sum(
            process.memory_info().rss / 2**20 for part in parts for process in self.replicas(part)
        )


@contextmanager
def service(pages: int, folder: str) -> Iterator[Service]:
    """The service over synthetic pages; two replicas of what is killed later."""
    settings = load_settings(store=folder, port=free_port())
    prepare_serving()
    # Ray first: it does not come up in a process whose gRPC client already has threads.
    from cluster.runtime import ray_session
    from serve.app import reserved_cpus
    from serve.launch import serving

    with ray_session(settings, extra_cpus=4 + 3 * reserved_cpus(settings)):
        queries = _fill(settings, pages)
        with serving(settings) as url:
            running = Service(url, settings, queries)
            running.wait_until_ready()
            yield running


def _fill(settings: Settings, pages: int) -> list[str]:
    """Fill the store; returns queries: five words of some page each."""
    from models.options import EmbedderOptions

    options = EmbedderOptions.from_settings(settings, has_gpu=False)
    fingerprint = options.fingerprint(options.resolved_precision)
    rng = random.Random(1)
    queries: list[str] = []
    with open_store(settings) as store, CONSOLE.status(f"writing {pages} pages"):
        store.open_collection(fingerprint)
        fill(store, 0, pages, fingerprint.dimension)
    while len(queries) < 200:
        words = rows_of_page(rng.randrange(pages), fingerprint.dimension)[0].text.split()
        if len(words) > 5:
            queries.append(" ".join(rng.sample(words, 5)))
    return queries


def _closed(url: str, bodies: list[Any], clients: int, seconds: float, retries: int) -> Outcome:
    return asyncio.run(Load(url, bodies, retries=retries).closed(clients, seconds))


def _open(url: str, bodies: list[Any], per_s: float, seconds: float, retries: int) -> Outcome:
    return asyncio.run(Load(url, bodies, retries=retries).open(per_s, seconds))


def overhead(service: Service) -> Iterator[Measurement]:
    """The router against the same calls made in-process, in turn, and where its time goes."""
    for clients in CLIENTS:
        inside = _in_process(service, clients, STEADY_S)
        outside = service.closed(service.searches(), clients, STEADY_S)
        for share in (50, 95, 99):
            yield Measurement(
                "overhead",
                f"search, {clients} clients, p{share}",
                f"router {outside.percentile_ms(share):.1f} ms, in-process "
                f"{inside.percentile_ms(share):.1f} ms",
            )
        yield Measurement(
            "overhead",
            f"search, {clients} clients, throughput",
            f"router {outside.per_s:.0f}/s, in-process {inside.per_s:.0f}/s",
        )
        if clients == 1:
            extra = outside.percentile_ms(50) - inside.percentile_ms(50)
            yield Measurement("overhead", "router and handles, p50", f"{extra:.1f} ms", extra <= 6)
            yield from _stages(outside)


def _stages(outcome: Outcome) -> Iterator[Measurement]:
    bodies = [body for body in outcome.bodies if body]
    for stage in bodies[0]:
        times = sorted(body[stage] for body in bodies)
        yield Measurement("overhead", f"stage {stage}, p50", f"{times[len(times) // 2]:.1f} ms")
    rest = outcome.percentile_ms(50) - sorted(b["total"] for b in bodies)[len(bodies) // 2]
    yield Measurement("overhead", "HTTP, proxy, JSON, p50", f"{rest:.1f} ms")


def _in_process(service: Service, clients: int, seconds: float) -> Outcome:
    """The same searches by as many tasks of one process that has the model and the store."""
    from cluster.core import Query
    from models.options import EmbedderOptions
    from models.qwen3_vl.embedder import Qwen3VLEmbedder
    from models.retrieval.retriever import Retriever, local_first_stage

    embedder = Qwen3VLEmbedder(EmbedderOptions())
    outcome = Outcome()

    async def run(retriever: Retriever) -> None:
        end = time.monotonic() + seconds
        sent = 0

        async def client() -> None:
            nonlocal sent
            while time.monotonic() < end:
                text = service.queries[sent % len(service.queries)]
                sent += 1
                started = time.perf_counter()
                await retriever.search(Query(text=text), service.settings)
                outcome.seconds.append(time.perf_counter() - started)

        await asyncio.gather(*(client() for _ in range(clients)))

    with open_store(service.settings) as store:
        started = time.monotonic()
        asyncio.run(run(Retriever(lambda: store, local_first_stage(embedder))))
        outcome.elapsed_s = time.monotonic() - started
    return outcome


def batching(service: Service) -> Iterator[Measurement]:
    """Embeddings of one text a request, 64 clients: batches by budget against one at a time."""
    together = service.closed(service.texts(), 64, STEADY_S)
    scaling = service.settings.embedder_replicas
    service.update(embedder_replicas=scaling.model_copy(update={"batch_tokens": 1}))
    alone = service.closed(service.texts(), 64, STEADY_S)
    service.update(embedder_replicas=scaling)
    again = service.closed(service.texts(), 64, STEADY_S)
    mean = (together.per_s + again.per_s) / 2
    ratio = mean / alone.per_s
    yield Measurement(
        "batching",
        "embeddings, 64 clients",
        f"{together.per_s:.0f} and {again.per_s:.0f}/s, one at a time {alone.per_s:.0f}/s: "
        f"{ratio:.2f}×",
        ratio >= 2,
    )
    limit_ms = service.settings.request_timeout_s * 1000
    late = max(together.percentile_ms(95), again.percentile_ms(95))
    yield Measurement("batching", "p95 with batches", f"{late:.0f} ms", late < limit_ms)


def latency(service: Service) -> Iterator[Measurement]:
    """One search after the other, with and without reranking of 20 candidates."""
    for rerank, limit_ms in (("none", 1000), ("cross-encoder", 3000)):
        outcome = service.closed(service.searches(rerank=rerank, rerank_k=20), 1, STEADY_S)
        late = outcome.percentile_ms(95)
        yield Measurement(
            "latency",
            f"rerank {rerank}, p50 / p95",
            f"{outcome.percentile_ms(50):.0f} / {late:.0f} ms",
            late <= limit_ms,
        )


def overload(service: Service) -> Iterator[Measurement]:
    """Reranked searches at ten times the rate that the service can do."""
    bodies = service.searches(rerank="cross-encoder", rerank_k=20)
    normal = service.closed(bodies, NORMAL_CLIENTS, 2 * STEADY_S)
    before = service.memory_mib()
    rate = normal.per_s * OVERLOAD_FACTOR
    outcome = service.start_open(bodies, rate, OVERLOAD_S).result()
    after = service.memory_mib()
    wrong = sum(n for status, n in outcome.statuses.items() if status not in (200, 429, 503))
    yield Measurement(
        "overload",
        f"capacity, {NORMAL_CLIENTS} clients",
        f"{normal.per_s:.1f}/s; sent {rate:.0f}/s",
    )
    yield Measurement("overload", "statuses", str(dict(outcome.statuses)), wrong == 0)
    missing = outcome.without_retry_after
    yield Measurement("overload", "refusals without Retry-After", str(missing), missing == 0)
    slow = outcome.percentile_ms(99) / normal.percentile_ms(99)
    yield Measurement(
        "overload",
        "accepted p99 against normal",
        f"{outcome.percentile_ms(99):.0f} / {normal.percentile_ms(99):.0f} ms = {slow:.2f}×",
        slow <= 2,
    )
    done = outcome.per_s / normal.per_s
    yield Measurement("overload", "accepted, as a share of capacity", f"{done:.2f}")
    yield Measurement(
        "overload", "memory", f"{before:.0f} → {after:.0f} MiB", after < 1.1 * before + 64
    )
    recovered = service.closed(bodies, 1, 10)
    fine = set(recovered.statuses) == {200}
    yield Measurement("overload", "right afterwards", str(dict(recovered.statuses)), fine)


def kills(service: Service) -> Iterator[Measurement]:
    """A replica is killed every 15 seconds, in turn of router, embedder and reranker.

    The load is half of what the same service did just before, without kills.
    """
    two = {"min_replicas": 2, "max_replicas": 2}
    names = ("router", "embedder_replicas", "reranker_replicas")
    former = {name: getattr(service.settings, name) for name in names}
    service.update(**{name: scaling.model_copy(update=two) for name, scaling in former.items()})
    bodies = [*service.searches(), *service.searches(rerank="cross-encoder", rerank_k=5)]
    random.Random(2).shuffle(bodies)
    capacity = service.closed(bodies, KILL_CLIENTS, STEADY_S).per_s
    running = service.start_open(bodies, capacity / 2, KILLS_S, retries=2)
    killed = 0
    while not running.done():
        time.sleep(KILL_EVERY_S)
        victims = service.replicas(("router", "embedder", "reranker")[killed % 3])
        if victims and not running.done():
            victims[0].kill()
            killed += 1
    outcome = running.result()
    total = sum(outcome.first_tries.values())
    first, last = outcome.first_tries[True] / total, outcome.in_the_end[True] / total
    load = f"{capacity / 2:.1f} a second, half of {capacity:.1f}"
    yield Measurement("kills", "load", load)
    yield Measurement("kills", "requests, kills", f"{total}, {killed}; {dict(outcome.statuses)}")
    yield Measurement("kills", "first try", f"{first:.4%}", first >= 0.99)
    yield Measurement("kills", "with two retries", f"{last:.4%}", last == 1)
    service.update(**former)


def update(service: Service) -> Iterator[Measurement]:
    """The application is deployed anew, with another setting, under load."""
    running = service.start_closed(service.searches(), 8, 60)
    time.sleep(5)
    service.update(top_k=service.settings.top_k + 1)
    outcome = running.result()
    failed = sum(n for status, n in outcome.statuses.items() if status != 200)
    yield Measurement("update", "statuses", str(dict(outcome.statuses)), failed == 0)


def autoscaling(service: Service) -> Iterator[Measurement]:
    """A burst on an embedder that may have three replicas, and the quiet after it."""
    former = service.settings.embedder_replicas
    scaling = ModelScaling(
        max_replicas=3, target_ongoing_requests=4, upscale_delay_s=3, downscale_delay_s=20
    )
    service.update(embedder_replicas=scaling)
    running = service.start_closed(service.texts(), BURST_CLIENTS, BURST_S)
    up = _seconds_until(lambda: len(service.replicas("embedder")) > 1, BURST_S)
    most = len(service.replicas("embedder"))
    running.result()
    most = max(most, len(service.replicas("embedder")))
    down = _seconds_until(lambda: len(service.replicas("embedder")) == 1, 150)
    yield Measurement(
        "autoscaling", "another replica after", f"{up:.0f} s (at most {most})", up <= 30
    )
    yield Measurement("autoscaling", "back to one after", f"{down:.0f} s", down <= 120)
    service.update(embedder_replicas=former)


def outage(service: Service) -> Iterator[Measurement]:
    """Milvus is stopped for 30 seconds, then goes on."""
    state = service.settings.data_dir / "milvus" / "server.json"
    server = psutil.Process(json.loads(state.read_text())["pid"])
    body = {"text": service.queries[0], "rerank": "none"}
    server.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    found = httpx.post(f"{service.url}/v1/search", json=body, timeout=30)
    took = time.monotonic() - stopped
    yield Measurement(
        "outage",
        "first answer",
        f"{found.status_code} in {took:.1f} s",
        (found.status_code == 503 and took <= 5 and "retry-after" in found.headers),
    )
    slowest = 0.0
    told = False
    while time.monotonic() - stopped < OUTAGE_S:
        started = time.monotonic()
        status = httpx.post(f"{service.url}/v1/search", json=body, timeout=30).status_code
        if status == 503:
            slowest = max(slowest, time.monotonic() - started)
        told |= httpx.get(f"{service.url}/readyz", timeout=30).status_code == 503
        time.sleep(0.5)
    server.send_signal(signal.SIGCONT)
    back = _seconds_until(
        lambda: httpx.post(f"{service.url}/v1/search", json=body, timeout=30).status_code == 200, 60
    )
    yield Measurement("outage", "slowest 503 meanwhile", f"{slowest:.1f} s", slowest <= 5)
    yield Measurement("outage", "/readyz tells", str(told), told)
    yield Measurement("outage", "answers again after", f"{back:.1f} s", back <= 30)


def _seconds_until(condition: Callable[[], bool], limit_s: float) -> float:
    started = time.monotonic()
    while time.monotonic() - started < limit_s:
        if condition():
            return time.monotonic() - started
        time.sleep(0.25)
    return float("inf")


SECTIONS: dict[str, Callable[[Service], Iterator[Measurement]]] = {
    each.__name__: each
    for each in (overhead, batching, latency, overload, kills, update, autoscaling, outage)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, by commas")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    args = parser.parse_args()
    table = Table("section", "what", "measured", "promised", title=f"{args.pages} pages")
    with (
        tempfile.TemporaryDirectory(prefix="quire-benchmark-") as folder,
        service(args.pages, folder) as running,
    ):
        for name in args.only.split(","):
            for row in SECTIONS[name](running):
                verdict = {True: "met", False: "MISSED", None: ""}[row.held]
                table.add_row(row.section, row.what, row.measured, verdict)
                if args.json:
                    print(json.dumps(vars(row), ensure_ascii=False), flush=True)
                else:
                    CONSOLE.print(f"{row.section}: {row.what}: {row.measured} {verdict}")
    if not args.json:
        CONSOLE.print(table)


if __name__ == "__main__":
    main()
