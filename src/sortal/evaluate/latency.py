"""How long a classifier takes on this machine: from bytes to decision, and its network alone, which is another number.

Percentiles of measured decisions after a warm-up, with bounds that hold for any distribution of times: of n sorted
times the k-th is above the p-th percentile with the chance that fewer than k of n fall below it, a binomial (David and
Nagaraja 2003, "Order Statistics", section 7.1). For the 99th percentile at 95 % the largest of 299 will do, no fewer.
Conditions are part of the result: without processor, threads, engine, batch and precision times compare to nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DataError, ImageError
from sortal.core.incomplete_beta import log_beta_cdf
from sortal.core.preprocess import prepare
from sortal.core.report import Cell, Metric, Table
from sortal.data.decode import to_pixels
from sortal.data.table import ImageTable
from sortal.runtime.classifier import Classifier
from sortal.runtime.threads import processor as processor

Floats = NDArray[np.float64]
Input = TypeVar("Input")

PERCENTILE = 0.99
PRECISION = "float32"
"""Of what goes into the network and of the weights that the engines here run."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Times of `n` calls, each of one batch, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    p99_lower_ms: float
    """One-sided lower bound of the 99th percentile, at `confidence`."""
    p99_upper_ms: float | None
    """One-sided upper bound of the 99th percentile; None where too few calls were measured for one."""
    mean_ms: float
    images_per_s: float
    n: int
    batch: int
    confidence: float
    threads: int
    engine: str
    precision: str
    machine: str
    """The processor's name."""
    end_to_end: bool
    """From bytes to decision; otherwise the network alone, on input in memory."""
    times_ms: tuple[float, ...] = field(default=(), repr=False)
    """Every measured time, in the order measured."""


def measure_latency(
    classifier: Classifier,
    images: Sequence[bytes | Path],
    *,
    batch: int = 1,
    warmup: int = 10,
    repeats: int = 500,
    seconds: float | None = None,
    confidence: float = 0.95,
) -> Latency:
    """Time `repeats` decisions about encoded images, taken in turn; files are read before, so that no disk is timed.

    Ends after `seconds`, if given. Raises DataError when there is no image, ImageError when one cannot be read.
    """
    data = [_bytes(image) for image in images]
    if not data:
        raise DataError("latency is measured on images, and there is none")
    failed = classifier.predict(data).errors
    if failed:
        row, (code, message) = next(iter(failed.items()))
        raise ImageError(code, message, where=f"image {row} of the measurement")
    rounds = [[data[(start + place) % len(data)] for place in range(batch)] for start in range(len(data))]
    times = _times_ms(rounds, lambda part: classifier.predict(part, batch=batch), warmup, repeats, seconds)
    return _latency(times, classifier, batch=batch, confidence=confidence, end_to_end=True)


def measure_network(
    classifier: Classifier,
    images: Sequence[bytes | Path],
    *,
    batch: int = 1,
    warmup: int = 10,
    repeats: int = 200,
    seconds: float | None = None,
    confidence: float = 0.95,
) -> Latency:
    """As `measure_latency`, but of the network alone: input that is decoded, resized and normalized already."""
    spec = classifier.preprocess
    pixels = [
        prepare(spec, to_pixels(_bytes(image), channels=spec.channels, depth=spec.depth, where="image"))
        for image in images[:8]
    ]
    if not pixels:
        raise DataError("latency is measured on images, and there is none")
    ready = [
        classifier.network_input(np.stack([pixels[(start + place) % len(pixels)] for place in range(batch)]))
        for start in range(len(pixels))
    ]
    times = _times_ms(ready, classifier.run_network, warmup, repeats, seconds)
    return _latency(times, classifier, batch=batch, confidence=confidence, end_to_end=False)


def encoded_images(table: ImageTable, most: int = 64) -> list[bytes | Path]:
    """Up to `most` images as their files hold them, spread over the table; none where it holds arrays."""
    found: list[bytes | Path] = []
    for row in np.unique(np.linspace(0, len(table) - 1, most).astype(int)).tolist() if len(table) else ():
        with suppress(ImageError):
            content = table.read(row)
            if isinstance(content, bytes):
                found.append(content)
    return found


def percentile_bounds(times: Floats, percentile: float, confidence: float) -> tuple[float, float | None]:
    """One-sided lower and upper bounds of a percentile of what `times` (n,) are drawn from, each at `confidence`.

    Upper: None where even the largest time may lie below, which for 0.99 at 0.95 is so up to n = 298.
    """
    ordered = np.sort(times)
    n = len(ordered)
    ranks = np.arange(1, n + 1, dtype=np.float64)
    at_most = np.empty(n)  # P(at least k of n lie below the percentile) = I_p(k, n - k + 1)
    at_most[:] = np.exp(log_beta_cdf(np.full(n, percentile), ranks, n - ranks + 1))
    above = np.flatnonzero(1 - at_most >= confidence)
    below = np.flatnonzero(at_most >= confidence)
    low = float(ordered[below[-1]]) if len(below) else 0.0
    return low, float(ordered[above[0]]) if len(above) else None


def calls_needed(percentile: float, confidence: float) -> int:
    """The fewest measured calls that bound a percentile from above: 299 for 0.99 at 0.95."""
    return math.ceil(math.log(1 - confidence) / math.log(percentile) - 1e-12)


def latency_table(measured: Sequence[Latency]) -> Table:
    """One row a measurement, conditions included; end to end and network alone are told apart."""
    columns = ("what", "batch", "p50_ms", "p95_ms", "p99_ms", "p99_upper_ms", "images_per_s", "n", "engine", "threads")
    rows: list[tuple[Cell, ...]] = [
        (
            "from bytes to decision" if one.end_to_end else "network alone",
            one.batch,
            *(None if value is None else round(value, 3) for value in (one.p50_ms, one.p95_ms, one.p99_ms)),
            None if one.p99_upper_ms is None else round(one.p99_upper_ms, 3),
            round(one.images_per_s, 1),
            one.n,
            one.engine,
            one.threads,
        )
        for one in measured
    ]
    return Table(columns=columns, rows=tuple(rows))


def latency_metric(latency: Latency) -> Metric:
    """The 99th percentile with its bounds."""
    return Metric(value=latency.p99_ms, low=latency.p99_lower_ms, high=latency.p99_upper_ms, n=latency.n)


def _times_ms(
    rounds: Sequence[Input], call: Callable[[Input], object], warmup: int, repeats: int, seconds: float | None
) -> Floats:
    for number in range(warmup):
        call(rounds[number % len(rounds)])
    begun_s, times = time.perf_counter(), []
    for number in range(repeats):
        started_s = time.perf_counter()
        call(rounds[number % len(rounds)])
        ended_s = time.perf_counter()
        times.append(1000 * (ended_s - started_s))
        if seconds is not None and ended_s - begun_s > seconds:
            break
    return np.array(times)


def _latency(times: Floats, classifier: Classifier, *, batch: int, confidence: float, end_to_end: bool) -> Latency:
    low, high = percentile_bounds(times, PERCENTILE, confidence)
    p50, p95, p99 = (float(value) for value in np.percentile(times, [50, 95, 99]))
    return Latency(
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        p99_lower_ms=low,
        p99_upper_ms=high,
        mean_ms=float(times.mean()),
        images_per_s=1000 * batch / float(times.mean()),
        n=len(times),
        batch=batch,
        confidence=confidence,
        threads=classifier.threads,
        engine=classifier.engine,
        precision=PRECISION,
        machine=processor(),
        end_to_end=end_to_end,
        times_ms=tuple(times.tolist()),
    )


def _bytes(image: bytes | Path) -> bytes:
    return image if isinstance(image, bytes) else image.read_bytes()
