"""Activation ranges of int8: what the tensors of a graph hold on calibration images, and which part of it 256 levels
cover.

One pass keeps the exact ends of every tensor and a random sample of its values, so that memory does not grow with the
size of activations. `min-max` covers everything, `percentile` leaves the outermost values to saturate, `entropy` clips
where the distribution loses least (Migacz 2017, "8-bit inference with TensorRT": Kullback-Leibler divergence).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels, PreprocessSpec, normalize

Floats = NDArray[np.float32]
Range = tuple[float, float]

PERCENTILE = 99.99
"""Share of values, in percent, that the method `percentile` covers on either side."""
SAMPLED = 2_048
"""Values kept of each tensor and image."""
_BATCH = 4
_BINS, _LEVELS, _STEP = 2_048, 128, 32


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one tensor held: exact ends, a sample (M,) of its values, and the mean of each channel (C,)."""

    low: float
    high: float
    values: Floats
    means: Floats = field(default_factory=lambda: np.zeros(0, np.float32))


def see_tensors(session: Any, names: Sequence[str], spec: PreprocessSpec, pixels: Pixels) -> dict[str, Seen]:
    """Run prepared pixels (N, H, W, C) through an ONNX Runtime session whose outputs and input include `names`."""
    inner = [name for name in names if name != "image"]
    random = np.random.Generator(np.random.Philox(key=0))
    ends: dict[str, Range] = {}
    kept: dict[str, list[Floats]] = {name: [] for name in names}
    sums: dict[str, Floats] = {}
    for start in range(0, len(pixels), _BATCH):
        batch = normalize(spec, pixels[start : start + _BATCH])
        found = dict(zip(inner, session.run(inner, {"image": batch}), strict=True)) | {"image": batch}
        for name in names:
            value = found[name]
            low, high = ends.get(name, (np.inf, -np.inf))
            ends[name] = (min(low, float(value.min())), max(high, float(value.max())))
            sums[name] = sums.get(name, np.zeros(1, np.float32)) + _channel_means(value).sum(axis=0)
            flat = value.reshape(-1)
            kept[name].append(flat[random.integers(0, flat.size, min(flat.size, SAMPLED * len(batch)))])
    return {
        name: Seen(
            low=ends[name][0],
            high=ends[name][1],
            values=np.concatenate(kept[name]),
            means=(sums[name] / len(pixels)).astype(np.float32),
        )
        for name in names
    }


def min_max(seen: Seen) -> Range:
    """All of it."""
    return _with_zero(seen.low, seen.high)


def percentile(seen: Seen) -> Range:
    """All but the outermost 0.01 % of values on either side."""
    low, high = np.percentile(seen.values, [100 - PERCENTILE, PERCENTILE])
    return _with_zero(max(float(low), seen.low), min(float(high), seen.high))


def entropy(seen: Seen) -> Range:
    """Clipped where the distribution of magnitudes, told in 128 levels, differs least from what it is."""
    limit = clipping_point(np.abs(seen.values), max(abs(seen.low), abs(seen.high)))
    return _with_zero(max(seen.low, -limit), min(seen.high, limit))


METHODS: Mapping[str, Callable[[Seen], Range]] = {"min-max": min_max, "percentile": percentile, "entropy": entropy}
"""How ranges are chosen, by name."""


def clipping_point(magnitudes: Floats, largest: float) -> float:
    """The magnitude above which values are clipped, of samples (M,) at most `largest`: least Kullback-Leibler
    divergence between the clipped histogram of 2,048 bins and its 128 levels."""
    counts, edges = np.histogram(magnitudes, bins=_BINS, range=(0.0, max(largest, 1e-12)))
    counts = counts.astype(np.float64)
    counts[0] = counts[1]  # what a ReLU cut off says nothing about the rest
    ends = range(_LEVELS, _BINS + 1, _STEP)
    losses = [_loss(counts, end) for end in ends]
    return float(edges[ends[int(np.argmin(losses))]])


def _channel_means(value: Floats) -> Floats:
    """(N, C) of a tensor (N, C, ...)."""
    means: Floats = value.reshape(len(value), value.shape[1] if value.ndim > 1 else 1, -1).mean(axis=2)
    return means


def _loss(counts: NDArray[np.float64], end: int) -> float:
    """Divergence of the first `end` bins, the rest counted into the last of them, from their 128 levels."""
    clipped = counts[:end].copy()
    clipped[-1] += counts[end:].sum()
    level = np.arange(end) * _LEVELS // end
    filled = (clipped > 0).astype(np.float64)
    sums = np.bincount(level, counts[:end], _LEVELS)
    parts = np.bincount(level, filled, _LEVELS)
    told = (sums / np.maximum(parts, 1))[level] * filled
    p, q = clipped / max(clipped.sum(), 1e-12), told / max(told.sum(), 1e-12)
    there = p > 0
    return float(np.sum(p[there] * np.log(p[there] / np.maximum(q[there], 1e-9))))


def _with_zero(low: float, high: float) -> Range:
    """Zero has to be a level, since padding is made of it; a tensor of zeros gets a range all the same."""
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high > low else (0.0, 1.0)
