"""The server's metrics, in Prometheus' text format. Each server has a registry of its own."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Requests, latencies, batches, queues, the encoder's rate, sizes of collections."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tandem_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "tandem_request_seconds",
            "From a request to its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("tandem_requests_in_flight", "Requests being answered", registry=self.registry)
        self.loop_lag = Histogram(
            "tandem_loop_lag_seconds",
            "How late the event loop came back to a timer",
            buckets=_LAGS,
            registry=self.registry,
        )
        self.client_closed = Counter(
            "tandem_client_closed_requests", "Requests whose client left before the answer", registry=self.registry
        )
        self.batches = Histogram(
            "tandem_batch_size", "Items the encoder computed at once", ["tower"], buckets=_SIZES, registry=self.registry
        )
        self.encoded = Counter("tandem_encoded", "Items encoded", ["tower"], registry=self.registry)
        self.encoding = Counter("tandem_encoding_seconds", "Time in the encoder", ["tower"], registry=self.registry)
        self.queue = Gauge("tandem_queue_length", "Items that wait", ["queue"], registry=self.registry)
        self.encoders = Gauge("tandem_encoders", "Encoders in memory", registry=self.registry)
        self.images = Gauge("tandem_collection_images", "Images in it", ["collection"], registry=self.registry)

    def observe_batch(self, tower: str) -> Callable[[int, float], None]:
        """What a batcher calls after each batch."""
        size_of = self.batches.labels(tower)
        encoded, encoding = self.encoded.labels(tower), self.encoding.labels(tower)

        def observe(size: int, seconds: float) -> None:
            size_of.observe(size)
            encoded.inc(size)
            encoding.inc(seconds)

        return observe

    def text(self) -> bytes:
        return generate_latest(self.registry)
