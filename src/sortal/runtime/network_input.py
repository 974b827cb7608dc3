"""What a graph takes: normalized float32, the prepared pixels where normalization is part of the graph, or upright
pixels of any size where resizing is part of it, too.

The file says which under `sortal.input`; a file that says nothing takes float32 (N, channels, height, width).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError
from sortal.core.preprocess import Pixels, PreprocessSpec, normalize

NetworkInput: TypeAlias = NDArray[np.float32] | NDArray[np.uint8]
"""A batch of N images as the graph takes them."""

KEY = "sortal.input"
"""Metadata entry: the type and the order of the dimensions, one of the four below."""
FLOAT32, FLOAT32_NHWC = "float32 NCHW", "float32 NHWC"
UINT8_NHWC, UINT8_NCHW = "uint8 NHWC", "uint8 NCHW"
ANY_SIZE = "uint8 NHWC any size"

_KEPT_BYTES = 64 * 2**20


def network_input(
    spec: PreprocessSpec, pixels: Pixels, metadata: Mapping[str, str], *, out: NDArray[np.float32] | None = None
) -> NetworkInput:
    """Prepared pixels (N, height, width, channels) as the graph with that metadata takes them.

    `out` is memory (N, channels, height, width) that normalized pixels may be written to. Raises BundleError for a kind
    of input that this version does not know, pixels deeper than the graph takes, or a graph that prepares them itself.
    """
    kind = metadata.get(KEY, FLOAT32)
    if kind == ANY_SIZE:
        hint = "name the run, or its artifact onnx or onnx-uint8"
        raise BundleError("this graph resizes images itself and cannot be given prepared ones", hint=hint)
    if kind == FLOAT32:
        return normalize(spec, pixels, out=out)
    if kind == FLOAT32_NHWC:
        return np.ascontiguousarray(normalize(spec, pixels).transpose(0, 2, 3, 1))
    if kind not in (UINT8_NHWC, UINT8_NCHW):
        raise BundleError("the model takes an input that this version of Sortal does not know", received=kind)
    if pixels.dtype != np.uint8:
        raise BundleError("the model takes 8-bit pixels, its preprocessing keeps 16", received=str(pixels.dtype))
    order = (0, 1, 2, 3) if kind == UINT8_NHWC else (0, 3, 1, 2)
    return np.ascontiguousarray(pixels.transpose(order), np.uint8)


class InputMemory:
    """Memory for normalized batches that is used again, because fresh pages cost as much as the arithmetic.

    Threads may share it: who comes while it is lent gets other memory.
    """

    def __init__(self) -> None:
        self._kept: deque[NDArray[np.float32]] = deque(maxlen=1)

    def lend(self, pixels: Pixels) -> NDArray[np.float32]:
        """(M, channels, height, width), M at least N, with anything in it, for pixels (N, height, width, channels)."""
        count, height, width, channels = pixels.shape
        shape = (channels, height, width)
        try:
            kept = self._kept.pop()
        except IndexError:
            return np.empty((count, *shape), np.float32)
        return kept if len(kept) >= count and kept.shape[1:] == shape else np.empty((count, *shape), np.float32)

    def give_back(self, memory: NDArray[np.float32]) -> None:
        """Nobody reads what is in it any more. More than 64 MiB are not kept."""
        if memory.nbytes <= _KEPT_BYTES:
            self._kept.append(memory)


def takes_floats(metadata: Mapping[str, str]) -> bool:
    """Whether the graph with that metadata takes normalized float32 (N, channels, height, width)."""
    return metadata.get(KEY, FLOAT32) == FLOAT32


def takes_any_size(metadata: Mapping[str, str]) -> bool:
    """Whether the graph with that metadata takes upright pixels (1, height, width, channels) as they were decoded."""
    return metadata.get(KEY) == ANY_SIZE


def upright_input(pixels: Pixels) -> NetworkInput:
    """Upright pixels (1, height, width, channels) of 8 bits as such a graph takes them. Raises BundleError for more."""
    if pixels.dtype != np.uint8:
        raise BundleError("the model takes 8-bit pixels, its preprocessing keeps 16", received=str(pixels.dtype))
    return np.ascontiguousarray(pixels, np.uint8)
