"""Biases that make up for rounded weights: the mean of a layer's output is that of float32 again."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from smallgraph import small_graph
from sortal.compress.bias import corrected, mean_shift


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("narrow", [False, True])
def test_the_shift_is_that_of_a_one_pixel_convolution(groups: int, *, narrow: bool) -> None:
    random = np.random.default_rng(groups)
    weight = random.normal(size=(8, 8 // groups, 1, 1)).astype(np.float32)
    inputs = random.exponential(size=(500, 8)).astype(np.float32)
    scale = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / (64 if narrow else 127)
    rounded = np.rint(weight / scale) * scale

    def run(weights: np.ndarray) -> np.ndarray:
        parts = np.split(inputs, groups, axis=1)
        kernels = np.split(weights[:, :, 0, 0], groups, axis=0)
        return np.concatenate([x @ w.T for x, w in zip(parts, kernels, strict=True)], axis=1)

    expected = (run(rounded) - run(weight)).mean(axis=0)
    np.testing.assert_allclose(mean_shift(weight, inputs.mean(axis=0), narrow=narrow), expected, atol=1e-5)


def test_only_chosen_layers_change_and_the_original_stays() -> None:
    model = small_graph()
    before = model.SerializeToString()
    means = {"image": np.ones(3, np.float32), "r1": np.ones(16, np.float32)}
    made = corrected(model, means, {"stem"}, narrow=False)
    assert model.SerializeToString() == before
    biases = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    assert np.abs(biases["b1"]).max() > 0
    assert np.abs(biases["b2"]).max() == 0
