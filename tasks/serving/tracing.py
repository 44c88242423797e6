"""Traces of requests with OpenTelemetry: how long a request was queued, and how long it was computed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tasks.serving.batching import QueuedRequest

NAME = "verticals.serving"


class Traces:
    """Spans that are exported by OTLP over HTTP; imports the OpenTelemetry library."""

    def __init__(self, endpoint: str, share: float) -> None:
        """Args:
        endpoint: address of the collector, such as http://127.0.0.1:4318.
        share: fraction of the requests that are traced; a client that sends a trace context decides for its own requests.
        """
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        self._provider = TracerProvider(ParentBased(TraceIdRatioBased(share)), Resource.create({"service.name": NAME}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
        self._tracer = self._provider.get_tracer(NAME)

    @contextmanager
    def request(self, name: str, carrier: Mapping[str, str], **attributes: str) -> Iterator[Any]:
        """A span in the trace that the headers of the request name, or in a new trace.

        Args:
            name: of the span.
            carrier: headers of the request, names in lower case.
            attributes: of the span.

        Yields:
            The span.
        """
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        with self._tracer.start_as_current_span(name, extract(carrier), SpanKind.SERVER, attributes) as span:
            yield span

    def record(self, request: QueuedRequest) -> None:
        """Add spans for the queueing and the computation of a request to the current span."""
        shift = time.time() - time.monotonic()
        for name, began, ended in (("queue", request.arrived, request.started), ("compute", request.started, request.ended)):
            span = self._tracer.start_span(name, start_time=round(1e9 * (began + shift)), attributes={"batch.rows": request.batch_rows})
            span.end(round(1e9 * (ended + shift)))

    def close(self) -> None:
        """Export the remaining spans; this takes a while if the collector does not answer."""
        self._provider.shutdown()
