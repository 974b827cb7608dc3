"""What is true of a server at the moment that Prometheus asks: read then, and never before."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from sortal.serve.models import Models
from sortal.serve.service import Service

_KIB = 1024
Read = Callable[[Service], float]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A service and the labels of its series."""

    model: str
    role: str
    service: Service


class State(Collector):
    """Queues, workers, memory and versions of all models of a server."""

    def __init__(self, models: Models):
        self._models = models

    def describe(self) -> Iterable[Metric]:
        """Nothing: series are made when they are asked for."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        seen = [
            _Seen(model=one.name, role=role, service=service)
            for one in self._models
            for role, service in one.services()
        ]
        is_ready = float(self._models.is_ready)
        yield GaugeMetricFamily("sortal_ready", "Whether a request would be answered now", value=is_ready)
        yield _gauge("sortal_queue_limit_images", "Images that may wait", seen, lambda one: one.settings.queue)
        yield _gauge("sortal_queue_images", "Images that wait", seen, lambda one: one.waiting)
        yield _gauge("sortal_workers_ready", "Workers that can answer", seen, lambda one: one.workers)
        yield _gauge("sortal_workers_wanted", "Workers that it should have", seen, lambda one: one.settings.workers)
        yield _gauge("sortal_workers_busy", "Workers that have a batch now", seen, lambda one: one.busy)
        yield _gauge("sortal_workers_resident_memory_bytes", "Memory of all workers together", seen, _workers_bytes)
        yield _counter("sortal_worker_starts", "Workers started", seen, lambda one: one.starts)
        yield _counter("sortal_worker_deaths", "Workers that died or were killed", seen, lambda one: one.deaths)
        yield self._lost()
        yield self._waiting()
        yield from (family for family in (self._beside(), self._canaries()) if family.samples)
        yield _versions(seen)
        yield InfoMetricFamily(
            "sortal_build",
            "Which sortal this is",
            value={"version": version("sortal"), "python": platform.python_version()},
        )

    def _lost(self) -> Metric:
        family = CounterMetricFamily("sortal_events_lost", "Events that could not be written", labels=["model"])
        for one in self._models:
            family.add_metric([one.name], 0 if one.recorder is None else one.recorder.lost)
        return family

    def _waiting(self) -> Metric:
        family = GaugeMetricFamily(
            "sortal_events_waiting", "Events that wait because the disk refused them", labels=["model"]
        )
        for one in self._models:
            family.add_metric([one.name], 0 if one.recorder is None else one.recorder.waiting)
        return family

    def _beside(self) -> Metric:
        text = "Images that a shadow was asked about: it named the same class, another one, failed, or was not asked"
        family = CounterMetricFamily("sortal_shadow_images", text, labels=["model", "outcome"])
        for one in self._models:
            if one.shadow is not None:
                for outcome, count in asdict(one.shadow.counts).items():
                    family.add_metric([one.name, outcome], count)
        return family

    def _canaries(self) -> Metric:
        text = "Requests that a canary answered, or the live classifier in its place"
        family = CounterMetricFamily("sortal_canary_requests", text, labels=["model", "outcome"])
        for one in self._models:
            if one.canary is not None:
                family.add_metric([one.name, "answered"], one.canary.answered)
                family.add_metric([one.name, "fell_back"], one.canary.fell_back)
        return family


def _gauge(name: str, text: str, seen: list[_Seen], read: Read) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["model", "role"])
    for one in seen:
        family.add_metric([one.model, one.role], read(one.service))
    return family


def _counter(name: str, text: str, seen: list[_Seen], read: Read) -> Metric:
    family = CounterMetricFamily(name, text, labels=["model", "role"])
    for one in seen:
        family.add_metric([one.model, one.role], read(one.service))
    return family


def _versions(seen: list[_Seen]) -> Metric:
    family = InfoMetricFamily("sortal_model", "Which classifier answers", labels=["model", "role"])
    for one in seen:
        told = one.service.description
        if told:
            family.add_metric([one.model, one.role], {"bundle_id": told["bundle_id"], "engine": told["engine"]})
    return family


def _workers_bytes(service: Service) -> float:
    return float(sum(resident_bytes(pid) for pid in service.worker_pids))


def resident_bytes(pid: int) -> int:
    """Memory that a process has; 0 where it is gone, or the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * _KIB for line in lines if line.startswith("VmRSS:")), 0)
