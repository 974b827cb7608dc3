"""The numbers of one model in one role: batches, where time goes, and what was answered.

Everything here is called once a batch or once an image, so series are bound to their labels beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from sortal.serve.telemetry.class_names import counted_names

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of intervals of time."""
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_NAMES = ("model", "role")


class ModelSeries:
    """The series of all models, each with the labels `model` and `role`."""

    def __init__(self, registry: CollectorRegistry):
        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(name, text, [*_NAMES, *more], registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(name, text, _NAMES, buckets=buckets, registry=registry)

        self.images = counter("sortal_images", "Images by outcome", "outcome")
        self.classes = counter("sortal_answers", "Answers by class", "class")
        self.abstained = counter("sortal_answers_abstained", "Answers left to a person")
        self.unknown = counter("sortal_answers_unknown", "Answers about images of no known class")
        self.confidence = histogram("sortal_answer_confidence_ratio", "Probability of the answered class", _SHARES)
        self.batch = histogram("sortal_batch_images", "Images in a batch", _SIZES)
        self.queue = histogram("sortal_image_queue_seconds", "How long an image waited for a worker", SECONDS)
        self.decode = histogram("sortal_batch_decode_seconds", "Reading and preparing the images of a batch", SECONDS)
        self.network = histogram("sortal_batch_network_seconds", "The network on a batch", SECONDS)
        self.busy = counter("sortal_worker_busy_seconds", "Seconds that workers had a batch, all of them together")


class ModelMetrics:
    """Counts for one model."""

    def __init__(self, series: ModelSeries, model: str, role: str):
        self._series, self._place = series, (model, role)
        self._ok, self._unreadable, self._crashed = (
            series.images.labels(*self._place, outcome) for outcome in ("ok", "unreadable", "crashed")
        )
        self._abstained = series.abstained.labels(*self._place)
        self._unknown = series.unknown.labels(*self._place)
        self._confidence = series.confidence.labels(*self._place)
        self._batch = series.batch.labels(*self._place)
        self._queue = series.queue.labels(*self._place)
        self._decode = series.decode.labels(*self._place)
        self._network = series.network.labels(*self._place)
        self._busy = series.busy.labels(*self._place)
        self._described: dict[str, Any] | None = None
        self._names: list[str] = []
        self._classes: dict[str, Counter] = {}

    def batch(self, waited_s: Sequence[float], busy_s: float, decode_s: float, network_s: float) -> None:
        """A worker had a batch for `busy_s`; each of its images had waited."""
        self._batch.observe(len(waited_s))
        for seconds in waited_s:
            self._queue.observe(seconds)
        self._busy.inc(busy_s)
        self._decode.observe(decode_s)
        self._network.observe(network_s)

    def answered(self, answer: dict[str, Any], description: dict[str, Any]) -> None:
        """An image has its answer, see `worker.answers`, from the classifier of that description."""
        if "error" in answer:
            self._unreadable.inc()
            return
        if description is not self._described:
            self._describe(description)
        self._ok.inc()
        self._confidence.observe(answer["probability"])
        self._classes[self._names[answer["index"]]].inc()
        if answer["abstained"]:
            self._abstained.inc()
        if answer.get("unknown"):
            self._unknown.inc()

    def crashed(self) -> None:
        """An image was refused because workers died with it."""
        self._crashed.inc()

    def _describe(self, description: dict[str, Any]) -> None:
        self._names = counted_names(description["labels"], description["label_set"]["parents"], taken=self._classes)
        for name in self._names:
            if name not in self._classes:
                self._classes[name] = self._series.classes.labels(*self._place, name)
        self._described = description
