"""Traces: what a collector receives of a request that crosses from the router to a replica."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from serve.tracing import Trace, parent_of, traced, traceparent

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = f"00-{TRACE_ID}-{SPAN_ID}-01"


class Collector:
    """A local OTLP collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        kept = self.requests

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept.append((self.path, self.headers["Content-Type"], body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def spans(self) -> dict[str, tuple[str, Any]]:
        """Each span by its name, with the name of its service."""
        found = {}
        for _, _, body in self.requests:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {each.key: each.value.string_value for each in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        found[span.name] = (names["service.name"], span)
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Replica:
    """A deployment as tracing sees it."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    @traced("replica")
    async def embed(self, text: str) -> tuple[str, str]:
        """What was asked, and the span in which it was done."""
        await asyncio.sleep(0)
        return text, traceparent()

    @traced("failing")
    async def fail(self) -> None:
        raise ValueError("no")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def router(collector: Collector) -> Iterator[Trace]:
    yield from service("quire-router", collector)


@pytest.fixture
def replica(collector: Collector) -> Iterator[Replica]:
    for trace in service("quire-embedder", collector):
        yield Replica(trace)


def service(name: str, collector: Collector) -> Iterator[Trace]:
    trace = Trace(name, collector.endpoint)
    yield trace
    trace._provider.shutdown()


def send(*traces: Trace) -> None:
    """Send now what would be sent in a few seconds."""
    for trace in traces:
        assert trace._provider.force_flush(5000)


def elsewhere(work: Any) -> Any:
    """Run a coroutine as another process would: without this thread's current span."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def test_one_tree_from_the_caller_to_the_replica(
    collector: Collector, router: Trace, replica: Replica
) -> None:
    with router.span("/v1/search", CALLER), router.span("embed", candidates=3):
        text, inner = elsewhere(replica.embed("seat tube", traceparent=traceparent()))
    assert text == "seat tube"
    assert inner.startswith(f"00-{TRACE_ID}-") and inner.endswith("-01")
    send(router, replica._trace)
    spans = collector.spans()
    request, stage, work = (spans[name][1] for name in ("/v1/search", "embed", "replica"))
    assert {name: kept[0] for name, kept in spans.items()} == {
        "/v1/search": "quire-router",
        "embed": "quire-router",
        "replica": "quire-embedder",
    }
    assert {each.trace_id.hex() for each in (request, stage, work)} == {TRACE_ID}
    assert request.parent_span_id.hex() == SPAN_ID
    assert stage.parent_span_id == request.span_id
    assert work.parent_span_id == stage.span_id
    assert work.span_id.hex() == inner.split("-")[2]
    assert {each.key: each.value.int_value for each in stage.attributes} == {"candidates": 3}
    assert work.start_time_unix_nano < work.end_time_unix_nano
    kinds = {(path, kind) for path, kind, _ in collector.requests}
    assert kinds == {("/v1/traces", "application/x-protobuf")}


def test_a_request_without_a_caller_begins_a_trace(
    collector: Collector, router: Trace, replica: Replica
) -> None:
    with router.span("/v1/rerank"):
        assert traceparent()
    assert not traceparent()
    elsewhere(replica.embed("alone"))
    send(router, replica._trace)
    first, second = (collector.spans()[name][1] for name in ("/v1/rerank", "replica"))
    assert not first.parent_span_id and not second.parent_span_id
    assert first.trace_id != second.trace_id


def test_a_failure_is_raised_as_it_was_and_noted(collector: Collector, replica: Replica) -> None:
    with pytest.raises(ValueError, match="no"):
        elsewhere(replica.fail(traceparent=CALLER))
    send(replica._trace)
    failed = collector.spans()["failing"][1]
    assert failed.status.code == failed.status.STATUS_CODE_ERROR
    assert failed.parent_span_id.hex() == SPAN_ID


def test_a_caller_who_does_not_sample_is_obeyed(collector: Collector, router: Trace) -> None:
    with router.span("/v1/search", CALLER[:-2] + "00"):
        assert traceparent() == "" or traceparent().endswith("-00")
    send(router)
    assert not collector.requests


def test_nothing_is_sent_without_an_endpoint(collector: Collector) -> None:
    silent = Replica(Trace("quire-embedder", ""))
    with Trace("quire-router", "").span("/v1/search", CALLER, candidates=3):
        assert traceparent() == ""
        assert elsewhere(silent.embed("quiet", traceparent=CALLER)) == ("quiet", "")
    assert not collector.requests


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        "00-",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"00-{TRACE_ID}-{'x' * 16}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID * 2}-{SPAN_ID}-01",
    ],
)
def test_a_malformed_header_is_ignored(collector: Collector, router: Trace, header: str) -> None:
    assert parent_of(header) is None
    with router.span("/v1/search", header):
        pass
    send(router)
    span = collector.spans()["/v1/search"][1]
    assert not span.parent_span_id
    assert span.trace_id.hex() != TRACE_ID
