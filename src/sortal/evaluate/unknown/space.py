"""The spaces in which unknown scores measure distances: principal axes of the training embeddings, turned and stretched
until images of one class scatter alike in every direction.

`whitened` keeps those axes, `discriminant` only the directions in which class means differ (Fisher's, as in Rao 1948):
many classes say by themselves what matters, few do not. Few axes keep the exported graph small. The scatter within
classes is estimated with shrinkage towards a sphere (Ledoit and Wolf 2004, "A well-conditioned estimator for
large-dimensional covariance matrices"), which a few images a class need. Axes come from subspace iteration (Halko,
Martinsson and Tropp 2011), in seconds for thousands of dimensions.

Shapes: N images, D embedding dimensions, R axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["whitened", "discriminant"]

WHITENED_AXES = 96
DISCRIMINANT_AXES = 48
PRINCIPAL_AXES = 192
"""Out of which discriminant ones are found."""
FEWEST_CLASSES = 9
"""Below, class means span too little for a discriminant space."""
MAX_BYTES = 512 << 10
"""Of the axes, two bytes a number."""

_EXTRA = 16
_ROUNDS = 2

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Space:
    """coordinates = ((embedding - mean) @ axes) * scale; the mean first, for embeddings may hardly differ from it."""

    mean: NDArray[np.float32]
    """(D,)"""
    axes: NDArray[np.float16]
    """(D, R), each of unit length."""
    scale: NDArray[np.float32]
    """(R,)"""

    def coordinates(self, embeddings: NDArray[np.float32]) -> Floats:
        """(N, R) from embeddings (N, D)."""
        centered = embeddings.astype(np.float64) - self.mean.astype(np.float64)
        return np.asarray((centered @ self.axes.astype(np.float64)) * self.scale.astype(np.float64))


def fit_space(embeddings: NDArray[np.float32], labels: Ints, kind: Kind, *, seed: int = 0) -> Space:
    """The space of training embeddings (N, D) with labels (N,). Its origin is their mean."""
    return fit_spaces(embeddings, labels, (kind,), seed=seed)[kind]


def fit_spaces(
    embeddings: NDArray[np.float32], labels: Ints, wanted: Sequence[Kind], *, seed: int = 0
) -> dict[Kind, Space]:
    """As `fit_space`, several kinds at the price of one: finding the principal axes is what takes time."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    centered = embeddings - mean.astype(np.float32)
    most = PRINCIPAL_AXES if "discriminant" in wanted else WHITENED_AXES
    axes = _principal_axes(centered, _axes_wanted(len(centered), centered.shape[1], most), seed)
    coordinates = centered.astype(np.float64) @ axes
    return {kind: _space(mean, axes, coordinates, labels, kind) for kind in wanted}


def _space(mean: Floats, axes: Floats, coordinates: Floats, labels: Ints, kind: Kind) -> Space:
    if kind == "whitened":
        axes = axes[:, :WHITENED_AXES]
        whole = axes @ _whitening(coordinates[:, :WHITENED_AXES], labels)
    else:
        whole = axes @ _discriminant(coordinates, labels)
    whole = whole[:, : max(1, MAX_BYTES // (2 * len(whole)))]
    lengths = np.maximum(np.linalg.norm(whole, axis=0), 1e-30)
    rounded = (whole / lengths).astype(np.float16)
    return Space(mean=mean.astype(np.float32), axes=rounded, scale=lengths.astype(np.float32))


def kinds(classes: int) -> tuple[Kind, ...]:
    """The spaces worth trying for so many classes."""
    return ("whitened", "discriminant") if classes >= FEWEST_CLASSES else ("whitened",)


def shrunk_covariance(centered: Floats) -> tuple[Floats, float]:
    """Ledoit and Wolf's estimate (R, R) from centered rows (N, R), and the weight of the sphere in it, 0 to 1."""
    count, width = centered.shape
    sample = centered.T @ centered / count
    variance = float(np.trace(sample)) / width
    sphere = variance * np.eye(width)
    distance = float(np.square(sample - sphere).sum())
    noise = float((np.square(centered).T @ np.square(centered) / count - np.square(sample)).sum()) / count
    weight = 1.0 if distance <= 0.0 else min(max(noise, 0.0) / distance, 1.0)
    return (1.0 - weight) * sample + weight * sphere, weight


def _axes_wanted(count: int, width: int, most: int) -> int:
    return max(1, min(most, width, count - 1))


def _principal_axes(centered: NDArray[np.float32], wanted: int, seed: int) -> Floats:
    """(D, R) orthonormal, the largest spread first."""
    count, width = centered.shape
    tried = min(wanted + _EXTRA, count, width)
    found = np.random.default_rng(seed).standard_normal((width, tried)).astype(np.float32)
    for _ in range(_ROUNDS):
        found = np.linalg.qr(centered.T @ (centered @ found))[0]
    exact = np.linalg.qr(found.astype(np.float64))[0]
    _, _, turn = np.linalg.svd(centered.astype(np.float64) @ exact, full_matrices=False)
    return np.asarray(exact @ turn.T[:, :wanted])


def _whitening(coordinates: Floats, labels: Ints) -> Floats:
    """(R, R): makes the scatter around class means a sphere of unit size; the widest directions first."""
    means, own = _means(coordinates, labels)
    covariance, _ = shrunk_covariance(coordinates - means[own])
    variances, axes = np.linalg.eigh(covariance)
    least = max(float(variances[-1]) * 1e-9, 1e-30)
    return np.asarray((axes / np.sqrt(np.maximum(variances, least)))[:, ::-1])


def _discriminant(coordinates: Floats, labels: Ints) -> Floats:
    """(R, at most 48): after whitening, the directions in which class means differ, most first."""
    whitening = _whitening(coordinates, labels)
    means, own = _means(coordinates, labels)
    spread = np.sqrt(np.bincount(own))[:, None] * (means @ whitening)
    _, _, directions = np.linalg.svd(spread, full_matrices=False)
    return np.asarray(whitening @ directions[: min(DISCRIMINANT_AXES, len(means) - 1)].T)


def _means(coordinates: Floats, labels: Ints) -> tuple[Floats, Ints]:
    """Class means (classes, R), and the number of each image's own (N,)."""
    _, own = np.unique(labels, return_inverse=True)
    sums = np.zeros((own.max() + 1, coordinates.shape[1]))
    np.add.at(sums, own, coordinates)
    return sums / np.bincount(own)[:, None], own
