"""A classifier that can be checked by eye: the class is the color channel with the highest mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sortal.core.bundle import BundleContents, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.manifest import ModelSpec
from sortal.core.preprocess import PreprocessSpec
from sortal.export.publish import stamp, write_artifact


def color_model(size: int = 16, *, factor: float = 4.0) -> onnx.ModelProto:
    """logits = `factor` x mean over the left half of the image, channel by channel; the embedding is the plain mean."""
    make, info = helper.make_node, helper.make_tensor_value_info
    stored = {
        "start": np.asarray([0], np.int64),
        "end": np.asarray([size // 2], np.int64),
        "axis": np.asarray([3], np.int64),
        "space": np.asarray([2, 3], np.int64),
        "factor": np.asarray(factor, np.float32),
    }
    nodes = [
        make("Identity", ["image"], ["feature_map"]),
        make("ReduceMean", ["image", "space"], ["embedding"], keepdims=0),
        make("Slice", ["image", "start", "end", "axis"], ["left"]),
        make("ReduceMean", ["left", "space"], ["mean"], keepdims=0),
        make("Mul", ["mean", "factor"], ["logits"]),
    ]
    shape = ["batch", 3, size, size]
    outputs = [("logits", ["batch", 3]), ("embedding", ["batch", 3]), ("feature_map", shape)]
    graph = helper.make_graph(
        nodes,
        "colors",
        [info("image", TensorProto.FLOAT, shape)],
        [info(name, TensorProto.FLOAT, dims) for name, dims in outputs],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def color_bundle(
    path: Path,
    *,
    threshold: float = 0.6,
    size: int = 16,
    temperature: float = 1.0,
    factor: float = 4.0,
    names: tuple[str, str, str] = ("red", "green", "blue"),
    display: dict[str, str] | None = None,
) -> Path:
    """A bundle of it at `path`, with its ONNX artifact."""
    contents = BundleContents(
        labels=LabelSet(names=names, display=display or {}),
        preprocess=PreprocessSpec(size=(size, size), resize="stretch", mean=(0.0,) * 3, std=(0.25,) * 3),
        decision=DecisionSpec(threshold=threshold, temperature=temperature),
        model=ModelSpec(architecture="colors", classes=3, embedding=3, parameters=0),
        weights_licence="Apache-2.0",
    )
    write_bundle(path, contents)
    file = path.parent / f"{path.name}-work.onnx"
    file.write_bytes(color_model(size, factor=factor).SerializeToString())
    stamp(file, open_bundle(path))
    write_artifact(path, "onnx", file, None)
    return path
