"""8-bit pixels in, calibrated probabilities out: the same numbers as preprocessing and decision compute outside."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from sortal.core.decision import DecisionSpec, probabilities
from sortal.core.errors import BundleError
from sortal.core.preprocess import PreprocessSpec, normalize
from sortal.export.fused import fuse
from sortal.export.graph import set_metadata
from sortal.runtime.metadata import ArtifactInfo, to_metadata
from sortal.runtime.network_input import network_input


def stamped(exported, labels, spec: PreprocessSpec, decision: DecisionSpec) -> onnx.ModelProto:
    model = onnx.load_model(exported)
    info = ArtifactInfo(labels=labels, preprocess=spec, decision=decision, bundle_id="0" * 64, licence="MIT")
    set_metadata(model, to_metadata(info))
    return model


def run(model: onnx.ModelProto, batch: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": batch}), strict=True))


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_pixels_go_in_and_calibrated_probabilities_come_out(layout, exported, labels, spec, pixels):
    decision = DecisionSpec(temperature=2.5, bias=(0.4, -0.1, 0.0, 1.0))
    model = stamped(exported, labels, spec, decision)
    expected = run(model, normalize(spec, pixels))
    fuse(model, layout=layout)
    onnx.checker.check_model(model, full_check=True)
    found = run(model, pixels if layout == "NHWC" else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    for name in ("logits", "embedding", "feature_map"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    np.testing.assert_allclose(found["probabilities"], probabilities(decision, expected["logits"]), atol=1e-6)


def test_deeper_pixels_are_refused(exported, labels, spec):
    deep = spec.model_copy(update={"depth": 16})
    with pytest.raises(BundleError, match="8-bit") as refused:
        fuse(stamped(exported, labels, deep, DecisionSpec()))
    assert "onnx-fp16" in str(refused.value)


def test_a_fused_model_is_not_fused_again(exported, labels, spec):
    model = stamped(exported, labels, spec, DecisionSpec())
    fuse(model)
    with pytest.raises(BundleError, match="already"):
        fuse(model)


def test_inputs_are_told_apart_by_the_metadata(spec, pixels):
    assert network_input(spec, pixels, {}).dtype == np.float32
    np.testing.assert_array_equal(network_input(spec, pixels, {"sortal.input": "uint8 NHWC"}), pixels)
    assert network_input(spec, pixels, {"sortal.input": "uint8 NCHW"}).shape == (40, 3, 24, 20)
    with pytest.raises(BundleError, match="does not know"):
        network_input(spec, pixels, {"sortal.input": "float8"})
    with pytest.raises(BundleError, match="8-bit"):
        network_input(spec, pixels.astype(np.uint16), {"sortal.input": "uint8 NHWC"})
