"""OpenTelemetry traces, where a collector is named: one tree from the request to the batches."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

T = TypeVar("T")
TRACES_PATH = "/v1/traces"


class Trace:
    """The spans of one service; does nothing where no collector is named."""

    def __init__(self, service: str, endpoint: str) -> None:
        self._provider: Any = None
        if endpoint:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            self._provider = TracerProvider(resource=Resource({"service.name": service}))
            exporter = OTLPSpanExporter(endpoint.rstrip("/") + TRACES_PATH)
            self._provider.add_span_processor(BatchSpanProcessor(exporter))

    @contextmanager
    def span(self, name: str, traceparent: str = "", **attributes: Any) -> Iterator[None]:
        """A span below the one of `traceparent`, or below the current one."""
        if self._provider is None:
            yield
            return
        context = parent_of(traceparent) if traceparent else None
        tracer = self._provider.get_tracer("quire")
        with tracer.start_as_current_span(name, context=context, attributes=attributes):
            yield


def traceparent() -> str:
    """Return the current span as a W3C traceparent header; "" where nothing is traced."""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return ""
    return f"00-{current.trace_id:032x}-{current.span_id:016x}-{int(current.trace_flags):02x}"


def parent_of(header: str) -> Any:
    """Return the context of a W3C traceparent header; None where it is none."""
    parts = header.split("-")
    try:
        _, trace_id, span_id, flags = (int(part, 16) for part in parts)
    except ValueError:
        return None
    parent = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return trace.set_span_in_context(NonRecordingSpan(parent)) if parent.is_valid else None


def traced(name: str) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Awaitable[T]]]:
    """Wrap a deployment's method in a span of its `_trace`; callers add their `traceparent`."""

    def decorate(method: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        @wraps(method)
        async def run(self: Any, *args: Any, traceparent: str = "") -> T:
            with self._trace.span(name, traceparent):
                return await method(self, *args)

        return run

    return decorate
