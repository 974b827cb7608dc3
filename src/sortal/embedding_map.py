"""Where images lie relative to each other, on a plane: what looks alike to a network lies close together.

t-SNE (van der Maaten and Hinton 2008, "Visualizing data using t-SNE") of the first 50 principal components where
scikit-learn is installed, else the first two principal components.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

COMPONENTS = 50
LEAST_FOR_TSNE = 30


def layout_2d(features: NDArray[np.float32], *, seed: int = 0) -> tuple[NDArray[np.float32], str]:
    """(N, 2) positions from 0 to 1 of (N, D) features, and the method: `t-SNE` or `PCA`. The same for the same seed."""
    if len(features) < 2:
        return np.full((len(features), 2), 0.5, np.float32), "PCA"
    parts = principal_components(features, COMPONENTS)
    if len(features) >= LEAST_FOR_TSNE and find_spec("sklearn") is not None:
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(parts) - 1) / 3)
        found = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, max_iter=500).fit_transform(parts)
        return _unit_square(found), "t-SNE"
    return _unit_square(parts), "PCA"


def principal_components(features: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """(N, max(2, count)) or fewer: (N, D) features along the directions in which they vary most."""
    centered = features - features.mean(axis=0)
    variances, axes = np.linalg.eigh((centered.T @ centered).astype(np.float64))
    chosen = axes[:, np.argsort(-variances)[:count]]
    chosen = chosen * np.where(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])] < 0, -1.0, 1.0)
    found = (centered @ chosen).astype(np.float32)
    return found if found.shape[1] >= 2 else np.pad(found, ((0, 0), (0, 2 - found.shape[1])))


def _unit_square(places: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first two columns within 0..1; one image far away from all others does not press them into a corner."""
    flat = places[:, :2].astype(np.float64)
    low, high = np.quantile(flat, [0.005, 0.995], axis=0)
    scaled = (flat - low) / np.maximum(high - low, 1e-12)
    return np.asarray(np.clip(0.02 + 0.96 * scaled, 0.0, 1.0), np.float32)
