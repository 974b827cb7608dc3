"""What has to hold before an engine sees a batch: the shape the model declares, and its batch size if that is fixed.

A model whose batch is fixed is run piece by piece, the last piece filled up, so that callers need not know. Shapes are
checked here because OpenVINO does not: it runs another shape than the declared one without a word.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError
from sortal.runtime.network_input import NetworkInput

Floats = NDArray[np.float32]
Run = Callable[[NetworkInput], list[Floats]]
Shape = tuple[int | None, ...]
"""Of the input as the model declares it, (N, channels, height, width) or the like; None where a size is free."""


def run_batch(run: Run, batch: NetworkInput, declared: Shape, *, where: str) -> list[Floats]:
    """What `run` gives for `batch`, each array joined over pieces of the declared batch size if that is fixed.

    Raises BundleError when the batch has another shape than the model declares.
    """
    if batch.shape[1:] == declared[1:] and declared[0] in (None, len(batch)):
        return run(batch)
    sizes = zip(declared[1:], batch.shape[1:], strict=False)
    if batch.ndim != len(declared) or any(wanted not in (None, given) for wanted, given in sizes):
        raise BundleError(f"the model takes {_text(declared)}", where=where, received=_text(batch.shape))
    size = declared[0]
    if size is None or len(batch) == size:
        return run(batch)
    pieces = []
    for start in range(0, len(batch), size):
        piece = batch[start : start + size]
        filled = np.concatenate([piece, np.zeros((size - len(piece), *piece.shape[1:]), piece.dtype)])
        pieces.append([output[: len(piece)] for output in run(filled)])
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


def _text(shape: Shape) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape)
