"""What every inference engine offers: a batch of network input in, the graph's outputs back.

An engine knows nothing of images, labels or decisions; `runtime.classifier` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sortal.runtime.network_input import NetworkInput


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The outputs of an exported graph for N images, C classes and D embedding dimensions."""

    logits: NDArray[np.float32]
    """(N, C)"""
    embedding: NDArray[np.float32]
    """(N, D)"""
    feature_map: NDArray[np.float32]
    """(N, D', height, width)"""
    unknown_score: NDArray[np.float32] | None = None
    """(N,) higher is stranger; None where the graph computes none."""


class Engine(Protocol):
    """An opened model. A member module of the registry offers `open(path, *, threads) -> Engine`."""

    @property
    def name(self) -> str:
        """The engine's name in the registry."""

    @property
    def metadata(self) -> dict[str, str]:
        """What the artifact says about itself; keys are `sortal.labels` and the like. Empty where it says nothing."""

    def run(self, batch: NetworkInput) -> Outputs:
        """A batch of `runtime.network_input` through the network. Raises BundleError when the model cannot."""

    def close(self) -> None:
        """Give memory and threads back; the engine cannot be used afterwards."""


@runtime_checkable
class FetchesAnswers(Protocol):
    """An engine that can leave outputs where they are."""

    def run_answers(self, batch: NetworkInput) -> Outputs:
        """As `run`, but only the logits and the unknown score are fetched; the other arrays are empty, (N, 0 ...)."""


@runtime_checkable
class TellsAll(Protocol):
    """An engine that gives out every output of a file, also what its graph decides."""

    def run_all(self, batch: NetworkInput) -> dict[str, NDArray[Any]]:
        """Outputs by name, as the file has them."""


def answering(engine: Engine) -> Callable[[NetworkInput], Outputs]:
    """The cheapest of the engine's ways to get logits and unknown score."""
    return engine.run_answers if isinstance(engine, FetchesAnswers) else engine.run
