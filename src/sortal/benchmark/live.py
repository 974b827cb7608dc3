"""The network itself as an engine: PyTorch as it was trained, the yardstick that export and compression are held to."""

from __future__ import annotations

from typing import Any

import numpy as np

from sortal.core.bundle import Bundle
from sortal.core.errors import BundleError, MissingExtraError
from sortal.runtime.engines.protocol import Outputs
from sortal.runtime.network_input import NetworkInput


class LiveEngine:
    """A live module in evaluation mode over normalized float32 images, on the CPU."""

    name = "torch eager"
    ran_on = "torch eager"

    def __init__(self, network: Any):
        self._network = network
        self.metadata: dict[str, str] = {}

    def run(self, batch: NetworkInput) -> Outputs:
        """See `Engine.run`."""
        import torch

        if self._network is None:
            raise BundleError("this engine is closed", where=self.name)
        with torch.inference_mode():
            logits, embedding, feature_map = (
                output.float().numpy() for output in self._network(torch.from_numpy(np.ascontiguousarray(batch)))
            )
        return Outputs(logits=logits, embedding=embedding, feature_map=feature_map)

    def close(self) -> None:
        """See `Engine.close`."""
        self._network = None


def open_live(bundle: Bundle, *, threads: int) -> LiveEngine:
    """The network of a bundle with weights. Raises BundleError where this copy has none, MissingExtraError without
    torch."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "train") from error
    from sortal.models.backbones import load_network

    if bundle.weights_path is None:
        raise BundleError("this copy of the bundle has no weights", where=str(bundle.path))
    torch.set_num_threads(threads)
    return LiveEngine(load_network(bundle.manifest.model, bundle.weights_path))
