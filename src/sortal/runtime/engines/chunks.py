"""Run a model whose batch size is fixed as if it were free: piece by piece, the last piece filled up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def run_in_chunks(run: Callable[[Floats], list[Floats]], batch: Floats, size: int | None) -> list[Floats]:
    """What `run` gives for `batch` (N, ...), each array joined over pieces of `size`; None means any size is fine."""
    if size is None or len(batch) == size:
        return run(batch)
    pieces = []
    for start in range(0, len(batch), size):
        piece = batch[start : start + size]
        filled = np.concatenate([piece, np.zeros((size - len(piece), *piece.shape[1:]), np.float32)])
        pieces.append([output[: len(piece)] for output in run(filled)])
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
