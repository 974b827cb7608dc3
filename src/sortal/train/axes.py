"""Principal axes of features, by whichever of their two Gram matrices is smaller: with fewer images than features that
is that of the images, and the eigenvectors cost a fraction of the time.

Shapes: N images, D features, K axes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_NOTHING = 1e-12
"""Share of the largest sum of squares below which a direction is rounding error."""


def principal_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of squares (K,) along orthonormal axes (D, K), ascending, of (N, D) float64 features.

    K is D, or less where there are fewer images than features: then only the directions that images differ in.
    """
    images, features = x.shape
    if images >= features:
        sums, axes = _eigh(x.T @ x)
        return sums.clamp(min=0.0), axes
    sums, places = _eigh(x @ x.T)
    kept = sums > _NOTHING * sums[-1].clamp(min=1e-300)
    kept[-1] = True  # where all images are alike there is one axis, along which nothing varies
    sums = sums[kept].clamp(min=0.0)
    return sums, x.T @ (places[:, kept] / sums.clamp(min=1e-300).sqrt())


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """torch's solver gives up now and then on matrices with very many zero eigenvalues (features that are zero for
    every image); numpy's brings another LAPACK."""
    try:
        sums, axes = torch.linalg.eigh(matrix)
    except RuntimeError:  # its LinAlgError is one
        found = np.linalg.eigh(matrix.numpy())
        sums, axes = torch.from_numpy(found.eigenvalues), torch.from_numpy(found.eigenvectors)
    return sums, axes
