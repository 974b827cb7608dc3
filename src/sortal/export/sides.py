"""What can stand on either side of a parity check: a live module or an opened artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sortal.core.labels import LabelSet
from sortal.core.preprocess import PreprocessSpec
from sortal.export.parity import Side
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.metadata import from_metadata
from sortal.runtime.threads import allowed_cpus


def module_side(network: nn.Module, labels: LabelSet, preprocess: PreprocessSpec) -> Side:
    """The live module, put into evaluation mode for every call and back afterwards."""

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
        training = network.training
        network.eval()
        try:
            with torch.inference_mode():
                logits: NDArray[np.float32] = network(torch.from_numpy(batch).to(device))[0].float().cpu().numpy()
        finally:
            network.train(training)
        return logits

    return Side(name="live module", run=run, labels=labels, preprocess=preprocess)


def file_side(path: Path, *, engine: str = "onnxruntime", threads: int | None = None) -> Side:
    """A model file as it will be deployed: its own labels and preprocessing out of its own metadata."""
    opened: Engine = ENGINES.get(engine).open(path, threads=threads or allowed_cpus())
    info = from_metadata(opened.metadata, where=str(path))
    return Side(
        name=f"{path.name} on {engine}",
        run=lambda batch: opened.run(batch).logits,
        labels=info.labels,
        preprocess=info.preprocess,
    )
