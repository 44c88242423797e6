"""Traces of requests, by OpenTelemetry: what of an answer's time was waiting, and what was computing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tasks.serving.batching import Waiting

NAME = "verticals.serving"


class Traces:
    """Spans that are sent by OTLP over HTTP; loads OpenTelemetry's library."""

    def __init__(self, endpoint: str, share: float) -> None:
        """Args:
        endpoint: such as http://127.0.0.1:4318.
        share: of the requests that are traced, unless who asks has decided that.
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
        """A span of the trace that the request's headers name, or of a new one."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        with self._tracer.start_as_current_span(name, extract(carrier), SpanKind.SERVER, attributes) as span:
            yield span

    def ran(self, request: Waiting) -> None:
        """The queue and the computation of a request, within the current span."""
        shift = time.time() - time.monotonic()
        for name, began, ended in (("queue", request.since, request.started), ("compute", request.started, request.ended)):
            span = self._tracer.start_span(name, start_time=round(1e9 * (began + shift)), attributes={"batch.rows": request.together})
            span.end(round(1e9 * (ended + shift)))

    def close(self) -> None:
        """Send what is left; takes a while where nobody listens."""
        self._provider.shutdown()
