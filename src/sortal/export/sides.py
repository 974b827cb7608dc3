"""What can stand on either side of a parity check: a live module, for which torch is loaded, or an opened artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sortal.core.labels import LabelSet
from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.export.fused import NORMALIZED
from sortal.export.parity import Side
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.onnxruntime import open_session
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.metadata import from_metadata
from sortal.runtime.network_input import FLOAT32, KEY, NetworkInput, network_input
from sortal.runtime.onnx_file import read_model
from sortal.runtime.threads import allowed_cpus

if TYPE_CHECKING:
    from torch import nn


def module_side(network: nn.Module, labels: LabelSet, preprocess: PreprocessSpec) -> Side:
    """The live module, put into evaluation mode for every call and back afterwards."""
    import torch

    def run(batch: NetworkInput) -> NDArray[np.float32]:
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
        enter=lambda pixels: network_input(info.preprocess, pixels, opened.metadata),
        normalized=None if _takes_floats(opened) or path.suffix != ".onnx" else lambda pixels: _tapped(path, pixels),
        outputs=opened.run,
    )


def _takes_floats(engine: Engine) -> bool:
    return engine.metadata.get(KEY, FLOAT32) == FLOAT32


def _tapped(path: Path, pixels: Pixels) -> NDArray[np.float32]:
    """What a fused graph makes of prepared pixels before its network sees them, (N, channels, height, width)."""
    import onnx

    from sortal.export.adapt import expose

    model = onnx.load_model_from_string(read_model(path))
    metadata = {item.key: item.value for item in model.metadata_props}
    session = open_session(expose(model, [NORMALIZED]), threads=allowed_cpus(), where=str(path))
    given = network_input(from_metadata(metadata, where=str(path)).preprocess, pixels, metadata)
    found: NDArray[np.float32] = session.run([NORMALIZED], {"image": given})[0]
    return found
