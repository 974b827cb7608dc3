"""Batches of any size for what runs only some sizes: cut into pieces, a piece that is too small filled with zeros."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sortal.runtime.network_input import NetworkInput

Floats = NDArray[np.float32]


def run_in_pieces(
    run: Callable[[NetworkInput], list[Floats]], batch: NetworkInput, *, largest: int, size_for: Callable[[int], int]
) -> list[Floats]:
    """What `run` gives for a batch (N, ...), N at least 1, each array (N, ...) joined over pieces of at most `largest`.

    A piece of n images is filled up to `size_for(n)` before it runs, and its outputs are cut back to n.
    """
    parts = []
    for start in range(0, len(batch), largest):
        piece = batch[start : start + largest]
        missing = size_for(len(piece)) - len(piece)
        filled = piece if missing <= 0 else np.concatenate([piece, np.zeros((missing, *piece.shape[1:]), piece.dtype)])
        parts.append([output[: len(piece)] for output in run(np.ascontiguousarray(filled))])
    return parts[0] if len(parts) == 1 else [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
