"""The metrics of the server for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tasks.serving.models import Models, Version

LATENCIES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    def __init__(self, models: Models) -> None:
        self.models, self.registry = models, CollectorRegistry()
        which = ("model", "version")
        self.requests = Counter(
            "verticals_requests", "Number of requests by protocol and status.", (*which, "protocol", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "verticals_request_seconds", "Seconds from the request to the answer.", which, buckets=LATENCIES, registry=self.registry
        )
        self.queued = Histogram(
            "verticals_queue_seconds", "Seconds that requests were queued.", which, buckets=LATENCIES, registry=self.registry
        )
        self.computed = Histogram(
            "verticals_compute_seconds", "Seconds of the computation of a batch.", which, buckets=LATENCIES, registry=self.registry
        )
        self.rows = Histogram("verticals_batch_rows", "Rows per batch.", which, buckets=ROWS, registry=self.registry)
        self.registry.register(self)
        models.on_open.append(self.watch)

    def watch(self, version: Version) -> None:
        """Record all batches of a version from now on."""
        which = (version.model, version.version)
        queued, computed, rows = self.queued.labels(*which), self.computed.labels(*which), self.rows.labels(*which)

        def record_batch(count: int, requests: int, waited: Sequence[float], seconds: float) -> None:
            version.statistics.add_batch(count, requests, waited, seconds)
            rows.observe(count)
            computed.observe(seconds)
            for one in waited:
                queued.observe(one)

        version.on_batch = record_batch

    def answered(self, model: str, version: str, protocol: str, status: int, seconds: float) -> None:
        self.requests.labels(model, version, protocol, str(status)).inc()
        if status == 200:
            self.seconds.labels(model, version).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Metrics that are counted by other objects."""
        waiting = GaugeMetricFamily("verticals_queue_requests", "Requests that are queued now.", labels=("model", "version"))
        ready = GaugeMetricFamily(
            "verticals_version_ready", "Loaded versions: 1 for the active one, 0 for others.", labels=("model", "version")
        )
        for model in self.models.models.values():
            for version in model.versions.values():
                waiting.add_metric((model.name, version.version), version.batcher.waiting)
                ready.add_metric((model.name, version.version), float(version.version == model.active))
        yield waiting
        yield ready
        cache = self.models.cache
        if cache is not None:
            yield CounterMetricFamily("verticals_cache_hits", "Responses from the cache.", value=cache.hits)
            yield CounterMetricFamily("verticals_cache_misses", "Responses that had to be computed.", value=cache.misses)
            yield GaugeMetricFamily("verticals_cache_bytes", "Bytes of the cached responses.", value=cache.bytes)

        predictions = self.models.predictions
        if predictions is not None:
            yield CounterMetricFamily("verticals_predictions_written", "Predictions written to the log.", value=predictions.written)
            yield CounterMetricFamily(
                "verticals_predictions_dropped", "Predictions that could not be written to the log.", value=predictions.dropped
            )

    def page(self) -> bytes:
        return generate_latest(self.registry)
