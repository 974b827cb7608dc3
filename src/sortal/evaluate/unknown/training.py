"""What unknown scores are fitted on, and what they are written with.

Shapes: N training images, M known images that were not trained on, D embedding dimensions, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sortal.evaluate.unknown.space import Space

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Parameters = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Training:
    """The known world of a classifier."""

    space: Space
    """The whitened space of its embeddings."""
    embeddings: NDArray[np.float32]
    """(N, D)"""
    labels: Ints
    """(N,)"""
    known_embeddings: NDArray[np.float32]
    """(M, D)"""
    known_logits: NDArray[np.float32]
    """(M, C) of a network that was not trained on these images."""
    temperature: float = 1.0
    bias: tuple[float, ...] | None = None
    """What calibrates the logits, as in `DecisionSpec`."""
    seed: int = 0


class Graph(Protocol):
    """A graph under construction; tensors are known by their names."""

    def constant(self, value: NDArray[Any]) -> str:
        """A stored float tensor; half precision is kept on disk and widened when the graph runs."""

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One ONNX operation with one output."""

    def axes(self, *axes: int) -> str:
        """A list of dimensions, as an input of reductions."""
