"""What can stand on either side of a parity check: a live module, for which torch is loaded, or an opened artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sortal.core.decision import Decided
from sortal.core.errors import BundleError
from sortal.core.labels import LabelSet
from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.export.fused import NORMALIZED
from sortal.export.fused_decision import ABSTAINED, ANSWER, PROBABILITIES, UNKNOWN
from sortal.export.fused_resize import RESIZED
from sortal.export.look_inside import Arrays, View, open_view
from sortal.export.parity import Answered, Side
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.onnxruntime import OUTPUTS, UNKNOWN_SCORE
from sortal.runtime.engines.protocol import Engine, Outputs, TellsAll
from sortal.runtime.metadata import ArtifactInfo, from_metadata
from sortal.runtime.network_input import (
    FLOAT32,
    KEY,
    NetworkInput,
    network_input,
    takes_any_size,
    upright_input,
)
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
    """A model file as it will be deployed: its own labels and preprocessing out of its own metadata.

    Raises BundleError where a graph resizes on an engine in which its resizing cannot be looked at.
    """
    count = threads or allowed_cpus()
    opened: Engine = ENGINES.get(engine).open(path, threads=count)
    info = from_metadata(opened.metadata, where=str(path))
    if takes_any_size(opened.metadata):
        opened.close()
        return _resizing_side(path, engine, count, info)
    pixels_in = opened.metadata.get(KEY, FLOAT32) != FLOAT32
    view = open_view(path, engine, threads=count) if pixels_in else None

    def enter(pixels: Pixels) -> NetworkInput:
        return network_input(info.preprocess, pixels, opened.metadata)

    def normalized(pixels: Pixels) -> NDArray[np.float32]:
        return _inside(path, engine, count, NORMALIZED).run(enter(pixels))[NORMALIZED]

    return Side(
        name=f"{path.name} on {engine}",
        run=lambda batch: opened.run(batch).logits,
        labels=info.labels,
        preprocess=info.preprocess,
        enter=enter,
        normalized=None if view is None else normalized,
        outputs=opened.run,
        decided=_decided_by(view) if view is not None else _decided_on(opened),
    )


def _resizing_side(path: Path, engine: str, threads: int, info: ArtifactInfo) -> Side:
    """A graph that takes upright pixels of any size: as a whole, and cut behind its resizing to see which part errs."""
    whole, resized = open_view(path, engine, threads=threads), _inside(path, engine, threads, RESIZED)
    rest = open_view(path, engine, threads=threads, behind=RESIZED)
    if whole is None or rest is None:
        raise _closed_graph(path, engine)

    def prepare(upright: Pixels) -> Pixels:
        found = resized.run(upright_input(upright[None]))[RESIZED][0]
        return np.ascontiguousarray(found.transpose(1, 2, 0)).astype(np.uint8)

    def enter(pixels: Pixels) -> NetworkInput:
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)

    def normalized(pixels: Pixels) -> NDArray[np.float32]:
        view = open_view(path, engine, threads=threads, inside=(NORMALIZED,), behind=RESIZED)
        if view is None:
            raise _closed_graph(path, engine)
        found: NDArray[np.float32] = view.run(enter(pixels))[NORMALIZED]
        return found

    return Side(
        name=f"{path.name} on {engine}",
        run=lambda batch: _outputs(rest.run(batch)).logits,
        labels=info.labels,
        preprocess=info.preprocess,
        prepare=prepare,
        enter=enter,
        normalized=normalized,
        outputs=lambda batch: _outputs(rest.run(batch)),
        decided=_decided_by(rest),
        whole=lambda upright: _answered(whole.run(upright_input(upright[None]))),
    )


def _inside(path: Path, engine: str, threads: int, tensor: str) -> View:
    view = open_view(path, engine, threads=threads, inside=(tensor,))
    if view is None:
        raise _closed_graph(path, engine)
    return view


def _closed_graph(path: Path, engine: str) -> BundleError:
    return BundleError(
        "what a graph that resizes makes of an image cannot be looked at on this engine",
        where=str(path),
        received=engine,
        hint="known: onnxruntime, openvino",
    )


def _decided_by(view: View | None) -> Callable[[NetworkInput], Decided] | None:
    if view is None or ANSWER not in view.names:
        return None
    return lambda batch: _decided(view.run(batch))


def _decided_on(engine: Engine) -> Callable[[NetworkInput], Decided] | None:
    """As `_decided_by`, where the engine itself gives out all that the file has; files that take pixels decide."""
    if not (isinstance(engine, TellsAll) and engine.metadata.get(KEY, FLOAT32).startswith("uint8")):
        return None
    return lambda batch: _decided(engine.run_all(batch))


def _decided(found: Arrays) -> Decided:
    answers = found[ANSWER].reshape(-1)
    return Decided(
        probabilities=found[PROBABILITIES],
        index=answers.astype(np.int64),
        unknown=found[UNKNOWN].astype(bool) if UNKNOWN in found else np.zeros(len(answers), bool),
        abstained=found[ABSTAINED].astype(bool),
    )


def _outputs(found: Arrays) -> Outputs:
    logits, embedding, feature_map = (found[name] for name in OUTPUTS)
    score = found[UNKNOWN_SCORE].reshape(-1) if UNKNOWN_SCORE in found else None
    return Outputs(logits=logits, embedding=embedding, feature_map=feature_map, unknown_score=score)


def _answered(found: Arrays) -> Answered:
    return Answered(
        logits=found["logits"][0],
        unknown_score=float(found[UNKNOWN_SCORE].reshape(-1)[0]) if UNKNOWN_SCORE in found else None,
        decided=_decided(found) if ANSWER in found else None,
    )
