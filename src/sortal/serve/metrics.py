"""What Prometheus is told, and the account that has to come out even: every request received has one outcome."""

from __future__ import annotations

from typing import Literal, get_args
from weakref import WeakSet

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from sortal.serve.telemetry.model_metrics import SECONDS, ModelMetrics, ModelSeries

Outcome = Literal["ok", "client_error", "rejected", "failed", "expired", "cancelled"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
Way = Literal["http", "oip", "grpc"]
WAYS: tuple[Way, ...] = get_args(Way)


class Metrics:
    """The numbers of one server, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        # When each series began is as many lines again, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=registry)
        received = Counter("sortal_requests_received", "Requests for answers", ["way"], registry=registry)
        outcomes = Counter("sortal_requests", "Requests by outcome", ["way", "outcome"], registry=registry)
        seconds = Histogram(
            "sortal_request_seconds", "From received to answered", ["way"], buckets=SECONDS, registry=registry
        )
        bodies = Histogram(
            "sortal_request_body_seconds", "Until the images were there", ["way"], buckets=SECONDS, registry=registry
        )
        self._received = {way: received.labels(way) for way in WAYS}
        self._outcomes = {(way, outcome): outcomes.labels(way, outcome) for way in WAYS for outcome in OUTCOMES}
        self._seconds = {way: seconds.labels(way) for way in WAYS}
        self._bodies = {way: bodies.labels(way) for way in WAYS}
        self._open: WeakSet[object] = WeakSet()
        self._begun = self._finished = 0
        Gauge("sortal_requests_open", "Requests without an outcome yet", registry=registry).set_function(
            lambda: len(self._open)
        )
        Gauge(
            "sortal_requests_unaccounted", "Received, less those with an outcome and those open", registry=registry
        ).set_function(lambda: self._begun - self._finished - len(self._open))
        self._series = ModelSeries(registry)
        self._models: dict[tuple[str, str], ModelMetrics] = {}

    def of(self, model: str, role: str = "live") -> ModelMetrics:
        """The numbers of a model in a role; the same ones whenever it is asked for."""
        if (model, role) not in self._models:
            self._models[model, role] = ModelMetrics(self._series, model, role)
        return self._models[model, role]

    def watch(self, collector: Collector) -> None:
        """Tell what this one finds too, whenever numbers are asked for."""
        self._registry.register(collector)

    def begin(self, call: object, way: Way) -> None:
        """A request was received. A call that is forgotten without an outcome shows as unaccounted."""
        self._begun += 1
        self._received[way].inc()
        self._open.add(call)

    def finish(self, call: object, way: Way, outcome: Outcome, seconds: float, body_s: float | None) -> None:
        """Count a request that has its outcome; `body_s` is how long it took until its images were there."""
        self._finished += 1
        self._open.discard(call)
        self._outcomes[way, outcome].inc()
        self._seconds[way].observe(seconds)
        if body_s is not None:
            self._bodies[way].observe(body_s)

    def text(self) -> bytes:
        """All numbers, as Prometheus reads them."""
        return generate_latest(self._registry)
