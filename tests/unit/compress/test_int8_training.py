"""Training with rounding: it computes what is deployed, learns, and gives integers back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from smallgraph import SPEC, small_images
from sortal.compress.graph import quantized, shortened, simplified, tensors, with_metadata, with_outputs
from sortal.compress.ranges import Range, min_max, see_tensors
from sortal.compress.rounding import put_back, trainable
from sortal.core.preprocess import normalize
from sortal.export.torch_graph import as_module
from sortal.export.torch_graph.operators import OPERATORS
from sortal.runtime.engines.onnxruntime import open_session

Graph = onnx.ModelProto


@pytest.fixture(scope="module")
def ranges(graph_file: Path) -> dict[str, Range]:
    model = simplified(graph_file)
    names = tensors(model)
    session = open_session(with_outputs(model, names), threads=1, where="test")
    return {name: min_max(one) for name, one in see_tensors(session, names, SPEC, small_images(32).pixels).items()}


def _floats(model: Graph) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def _logits(model: Graph) -> np.ndarray:
    batch = normalize(SPEC, small_images(8, seed=3).pixels)
    data = with_metadata(shortened(onnx.ModelProto.FromString(model.SerializeToString())), {})
    found: np.ndarray = open_session(data, threads=1, where="test").run(["logits"], {"image": batch})[0]
    return found


@pytest.mark.parametrize("narrow", [False, True])
def test_what_is_trained_is_what_is_deployed(graph_file: Path, ranges: dict[str, Range], *, narrow: bool) -> None:
    plain = simplified(graph_file)
    graph = quantized(plain, ranges, narrow=narrow, brief=False)
    made = trainable(graph, _floats(plain), narrow=narrow)
    assert not any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in made.model.graph.node)
    module = as_module(made.model)
    batch = torch.from_numpy(normalize(SPEC, small_images(8, seed=3).pixels))
    with torch.no_grad():
        here = module(batch)[module.output_names.index("logits")].numpy()
    values = {name: module.stored(name).detach().numpy() for name in made.learned}
    there = _logits(put_back(graph, made.learned, values, narrow=narrow))
    spread = np.abs(there).max()
    # integer kernels sum in another order, and without VNNI saturate; one level of the last activation may differ
    assert np.abs(here - there).max() < 0.03 * spread
    assert np.abs(there - _logits(graph)).max() < 0.03 * spread


def test_weights_move_by_gradients_and_come_back_as_integers(graph_file: Path, ranges: dict[str, Range]) -> None:
    plain = simplified(graph_file)
    graph = quantized(plain, ranges, brief=False)
    made = trainable(graph, _floats(plain), narrow=False)
    module = as_module(made.model)
    weights = [module.stored(name) for name in made.learned]
    images = small_images(16, seed=5)
    batch = torch.from_numpy(normalize(SPEC, images.pixels))
    wrong = torch.from_numpy(1 - images.labels)  # it learns the opposite, which rounding alone never would
    optimizer = torch.optim.AdamW(weights, lr=2.0, weight_decay=0.0)
    losses = []
    for _ in range(30):
        logits = module(batch)[module.output_names.index("logits")]
        loss = torch.nn.functional.cross_entropy(logits, wrong)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    values = {name: module.stored(name).detach().numpy() for name in made.learned}
    trained = put_back(graph, made.learned, values, narrow=False)
    integers = [one for one in _floats(trained).values() if one.dtype == np.int8 and one.ndim > 1]
    assert len(integers) == 3
    assert all(np.abs(one.astype(int)).max() <= 127 for one in integers)
    assert {name: one.shape for name, one in _floats(trained).items()} == {
        name: one.shape for name, one in _floats(graph).items()
    }
    before, after = _logits(graph), _logits(trained)
    assert np.abs(before - after).max() > 0.1 * np.abs(before).max()


def test_a_root_of_features_that_are_zero_has_a_gradient() -> None:
    """Roots of means are how frozen features are pooled, and a mean of rounded values is often exactly 0."""
    means = torch.tensor([0.0, 1e-9, 0.25, 4.0], requires_grad=True)
    found = OPERATORS["sortal.Sqrt"]({}, means)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found, torch.sqrt(means))
    found.sum().backward()
    torch.testing.assert_close(means.grad, torch.tensor([0.0, 0.0, 1.0, 0.25]))


def test_channels_without_weights_stay_numbers(graph_file: Path, ranges: dict[str, Range]) -> None:
    plain = simplified(graph_file)
    for tensor in plain.graph.initializer:
        if tensor.name in ("first", "b1"):
            value = numpy_helper.to_array(tensor).copy()
            value[0] = 0.0
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    graph = quantized(plain, ranges, brief=False)
    made = trainable(graph, _floats(plain), narrow=False)
    assert all(np.isfinite(value).all() for value in _floats(made.model).values() if value.dtype == np.float32)
