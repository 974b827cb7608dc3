"""What Prometheus is told, and the account that has to come out even: every request received has one outcome."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

Outcome = Literal["ok", "client_error", "rejected", "failed", "expired", "cancelled"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "client_error", "rejected", "failed", "expired", "cancelled")

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.received = Counter("sortal_requests_received", "Requests for answers", registry=self._registry)
        self.outcomes = Counter("sortal_requests", "Requests by outcome", ["outcome"], registry=self._registry)
        self.images = Counter("sortal_images", "Images answered, by outcome", ["outcome"], registry=self._registry)
        self.seconds = Histogram(
            "sortal_request_seconds", "From received to answered", buckets=_SECONDS, registry=self._registry
        )
        self.batch = Histogram("sortal_batch_images", "Images in a batch", buckets=_SIZES, registry=self._registry)
        self.waiting = Gauge("sortal_queue_images", "Images that wait", registry=self._registry)
        self.workers = Gauge("sortal_workers_ready", "Workers that can answer", registry=self._registry)
        self.deaths = Gauge("sortal_workers_died", "Workers that died or were killed", registry=self._registry)
        self.queue_seconds = Gauge(
            "sortal_queue_seconds", "Seconds that images waited, all in all", registry=self._registry
        )
        self.answer_seconds = Gauge("sortal_answer_seconds", "Seconds of workers, all in all", registry=self._registry)
        self.lost = Gauge("sortal_events_lost", "Events that could not be written", registry=self._registry)
        for outcome in OUTCOMES:
            self.outcomes.labels(outcome)

    def finish(self, outcome: Outcome, seconds: float) -> None:
        """Count a request that has its outcome."""
        self.outcomes.labels(outcome).inc()
        self.seconds.observe(seconds)

    def note_batches(self, sizes: Iterable[int]) -> None:
        """Count batches by their size."""
        for size in sizes:
            self.batch.observe(size)

    def text(self) -> bytes:
        """All numbers, as Prometheus reads them."""
        return generate_latest(self._registry)
