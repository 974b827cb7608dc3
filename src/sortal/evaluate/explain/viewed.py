"""A classifier opened for explanations: prepared pixels in, class scores and feature maps out, also of random weights.

Shapes: N images, H and W pixels, F feature channels, h and w feature positions, C classes, D embedding.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels, PreprocessSpec, prepare
from sortal.data.decode import to_pixels
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine, Outputs
from sortal.runtime.locate import locate
from sortal.runtime.metadata import ArtifactInfo, from_metadata
from sortal.runtime.network_input import network_input
from sortal.runtime.onnx_file import read_model
from sortal.runtime.stored_weights import linear_head, with_random_weights

Floats = NDArray[np.float64]

_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Viewed:
    """An opened graph. `head` is weight (C, D) and bias (C,) of its linear head, None where it has none."""

    engine: Engine
    info: ArtifactInfo
    model: Path
    head: tuple[NDArray[np.float32], NDArray[np.float32]] | None

    @property
    def spec(self) -> PreprocessSpec:
        """How pixels become the network's input."""
        return self.info.preprocess

    def pixels(self, image: bytes, name: str) -> Pixels:
        """(H, W, channels): an encoded image at the network's size. Raises ImageError."""
        return prepare(self.spec, to_pixels(image, channels=self.spec.channels, depth=self.spec.depth, where=name))

    def outputs(self, pixels: Pixels) -> Outputs:
        """Of N prepared images (N, H, W, channels)."""
        return self.engine.run(network_input(self.spec, pixels, self.engine.metadata))

    def scores(self, pixels: Pixels, target: int) -> Floats:
        """(N,) the log-odds of a class against all others, of prepared images (N, H, W, channels).

        Log-odds go on falling where a probability is still 1.000.
        """
        parts = [self.outputs(pixels[start : start + _BATCH]).logits for start in range(0, len(pixels), _BATCH)]
        return log_odds(np.concatenate(parts).astype(np.float64) / self.info.decision.temperature, target)


def log_odds(logits: Floats, target: int) -> Floats:
    """(N,) log(p / (1 - p)) of one class from logits (N, C)."""
    others = np.delete(logits, target, axis=1)
    if not others.shape[1]:
        return logits[:, target]
    top = others.max(axis=1)
    odds: Floats = logits[:, target] - top - np.log(np.exp(others - top[:, None]).sum(axis=1))
    return odds


@contextmanager
def viewed(path: Path, *, engine: str = "auto", threads: int) -> Iterator[Viewed]:
    """Open a run, bundle, artifact or `model.onnx`. Raises as `runtime.classifier.open_classifier` does."""
    located = locate(path)
    name = "openvino" if located.model.suffix == ".xml" else "onnxruntime" if engine == "auto" else engine
    opened: Engine = ENGINES.get(name).open(located.model, threads=threads)
    try:
        info = located.info or from_metadata(opened.metadata, where=str(located.model))
        head = linear_head(read_model(located.model), where=str(located.model)) if _is_onnx(located.model) else None
        yield Viewed(engine=opened, info=info, model=located.model, head=head)
    finally:
        opened.close()


@contextmanager
def randomized(view: Viewed, *, threads: int, seed: int = 0) -> Iterator[Viewed | None]:
    """The same graph with random weights; None for a file whose weights cannot be reached (OpenVINO's IR)."""
    if not _is_onnx(view.model):
        yield None
        return
    where = str(view.model)
    data = with_random_weights(read_model(view.model), seed=seed, where=where)
    with tempfile.TemporaryDirectory(prefix="sortal-random-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        opened: Engine = ENGINES.get("onnxruntime").open(path, threads=threads)
        try:
            yield replace(view, engine=opened, head=linear_head(data, where=where))
        finally:
            opened.close()


def _is_onnx(model: Path) -> bool:
    return model.suffix == ".onnx"
