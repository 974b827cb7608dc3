"""What an evaluation says about time: decisions about its own images, one at a time, and the network alone."""

from __future__ import annotations

import numpy as np

from sortal.core.report import Finding, Metric, Report
from sortal.core.shares import z_score
from sortal.data.table import ImageTable
from sortal.evaluate.latency import (
    Latency,
    encoded_images,
    latency_metric,
    latency_table,
    measure_latency,
    measure_network,
)
from sortal.runtime.classifier import Classifier

TABLE = "latency"
_LONGEST_S = 60.0
_NETWORK_S = 10.0


def with_latency(report: Report, classifier: Classifier, table: ImageTable, decisions: int) -> Report:
    """The report with the time of so many decisions, a minute at most: metrics `latency_p99_ms`,
    `seconds_per_image` and `images_per_s`, from bytes to decision, and a table that has the network alone beside it.

    Where no image is an encoded file, a finding says that nothing could be timed.
    """
    samples = encoded_images(table)
    if not samples:
        message = "No image is an encoded file, so the time from a file to a decision was not measured."
        told = Finding(code="latency_not_measured", severity="info", message=message)
        return report.model_copy(update={"findings": (*report.findings, told)})
    confidence = report.body["confidence"]
    whole = measure_latency(classifier, samples, repeats=decisions, seconds=_LONGEST_S, confidence=confidence)
    alone = measure_network(classifier, samples, seconds=_NETWORK_S, confidence=confidence)
    metrics = {
        "latency_p99_ms": latency_metric(whole),
        **_means(whole, confidence),
    }
    return report.model_copy(
        update={
            "metrics": {**report.metrics, **metrics},
            "tables": {**report.tables, TABLE: latency_table([whole, alone])},
            "provenance": {**report.provenance, "machine": whole.machine, "precision": whole.precision},
        }
    )


def _means(timed: Latency, confidence: float) -> dict[str, Metric]:
    """The mean time of an image and its inverse, with the normal interval of a mean of many times."""
    times = np.asarray(timed.times_ms) / 1000
    half = z_score(confidence) * float(times.std(ddof=1)) / np.sqrt(len(times)) if len(times) > 1 else 0.0
    mean, n = float(times.mean()), len(times)
    low, high = max(mean - half, 1e-9), mean + half
    return {
        "seconds_per_image": Metric(value=mean, low=low, high=high, n=n),
        "images_per_s": Metric(value=1 / mean, low=1 / high, high=1 / low, n=n),
    }
