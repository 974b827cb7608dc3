"""A small network as an exported graph, made of ONNX nodes, and its images; two classes that colors tell apart."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sortal.compress.images import Prepared
from sortal.core.labels import LabelSet
from sortal.core.preprocess import PreprocessSpec

SPEC = PreprocessSpec(size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
LABELS = LabelSet(names=("blue", "red"))


def small_graph(*, width: int = 16, seed: int = 0) -> onnx.ModelProto:
    """Two convolutions with a residual sum, mean pooling, and a head that asks for red minus blue."""
    random = np.random.default_rng(seed)
    first = 0.2 * random.normal(size=(width, 3, 3, 3))
    second = 0.1 * random.normal(size=(width, width, 3, 3))
    head = np.zeros((2, width))
    head[1] = first.sum(axis=(2, 3)) @ np.array([1.0, 0.0, -1.0])
    stored = {
        "first": first, "second": second, "head.weight": head, "head.bias": np.zeros(2),
        "b1": np.zeros(width), "b2": np.zeros(width),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["image", "first", "b1"], ["c1"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
        helper.make_node("Conv", ["r1", "second", "b2"], ["c2"], name="body", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["r1", "c2"], ["feature_map"], name="sum"),
        helper.make_node("ReduceMean", ["feature_map", "axes"], ["embedding"], name="pool", keepdims=0),
        helper.make_node("Gemm", ["embedding", "head.weight", "head.bias"], ["logits"], name="head", transB=1),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()]
    tensors.append(numpy_helper.from_array(np.array([2, 3], np.int64), "axes"))
    outputs = {"logits": ["batch", 2], "embedding": ["batch", width], "feature_map": ["batch", width, 16, 16]}
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def small_images(count: int, *, seed: int = 0) -> Prepared:
    """Noise around blue and red in turn."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    base = np.array([[40, 60, 200], [200, 50, 40]])[labels]
    noise = random.normal(0, 30, (count, 16, 16, 3))
    pixels = np.clip(base[:, None, None, :] + noise, 0, 255).astype(np.uint8)
    names = tuple(f"{row:03d}.png" for row in range(count))
    digests = tuple(hashlib.sha256(one.tobytes()).hexdigest() for one in pixels)
    return Prepared(pixels=pixels, labels=labels.astype(np.int64), names=names, groups=None, digests=digests)
