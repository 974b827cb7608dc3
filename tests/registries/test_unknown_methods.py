"""Every unknown score keeps its contract; its operations in a graph say what its arithmetic says, on both engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sortal.core.errors import BundleError
from sortal.evaluate.measure.ranking import roc_auc
from sortal.evaluate.unknown import METHODS
from sortal.evaluate.unknown.fit import KnownImages, UnknownFit, fit_unknown
from sortal.evaluate.unknown.ridge import QuickHead, fit_quick_head
from sortal.evaluate.unknown.training import Parameters
from sortal.export.half import to_half
from sortal.export.unknown import remove_unknown, set_unknown, unknown_gap, write_unknown
from sortal.runtime.engines import ENGINES

CLASSES, WIDTH = 10, 3 * 8
MEANS = np.random.default_rng(0).normal(0, 2, (CLASSES + 4, WIDTH))


def blobs(count: int, seed: int, *, strange: bool = False) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    labels = np.arange(count) % (4 if strange else CLASSES) + (CLASSES if strange else 0)
    noise = np.random.default_rng(seed).normal(0, 1, (count, WIDTH))
    return (MEANS[labels] + noise).astype(np.float32), labels


@pytest.fixture(scope="module")
def head() -> QuickHead:
    values, labels = blobs(300, 1)
    return fit_quick_head(values, labels, *blobs(100, 2), CLASSES)


@pytest.fixture(scope="module", params=METHODS.table)
def fitted(request: pytest.FixtureRequest, head: QuickHead) -> UnknownFit:
    known, known_labels = blobs(200, 2)
    images = KnownImages(embeddings=known, logits=head.logits(known), labels=known_labels)
    found = fit_unknown(*blobs(300, 1), images, rate=0.05, method=request.param, temperature=1.5)
    assert found is not None
    return found


def graph(head: QuickHead, opset: int = 20) -> onnx.ModelProto:
    """A network whose embedding is its input, laid flat."""
    bias = (head.prior - head.mean @ head.weight) * head.factor
    nodes = [
        helper.make_node("Reshape", ["image", "flat"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "head.weight", "head.bias"], ["logits"]),
        helper.make_node("Identity", ["image"], ["feature_map"]),
    ]
    stored = {
        "flat": np.array([-1, WIDTH]),
        "head.weight": (head.weight * head.factor).astype(np.float32),
        "head.bias": bias.astype(np.float32),
    }
    outputs = {"logits": ["batch", CLASSES], "embedding": ["batch", WIDTH], "feature_map": ["batch", 3, 2, 4]}
    made = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 2, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def test_strangers_score_higher_than_known_images(fitted: UnknownFit, head: QuickHead) -> None:
    known, strange = blobs(200, 3)[0], blobs(200, 4, strange=True)[0]
    values = np.concatenate([known, strange])
    scores = METHODS.get(fitted.method).score(fitted.parameters, values, head.logits(values))
    assert scores.shape == (400,)
    assert np.isfinite(scores).all()
    assert roc_auc(scores, np.arange(400) >= 200)[0] > 0.85
    assert (scores[:200] > fitted.threshold).mean() < 0.12


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch", [1, 7])
def test_the_graph_says_what_the_arithmetic_says(
    fitted: UnknownFit, head: QuickHead, tmp_path: Path, engine: str, batch: int
) -> None:
    pytest.importorskip(engine, reason=f"the extra `{engine}` is not installed")
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(head).SerializeToString())
    set_unknown(path, fitted.method, fitted.parameters)
    opened = ENGINES.get(engine).open(path, threads=1)
    try:
        outputs = opened.run(blobs(batch, 5)[0].reshape(-1, 3, 2, 4))
    finally:
        opened.close()
    assert outputs.unknown_score is not None
    assert outputs.unknown_score.shape == (batch,)
    assert unknown_gap(outputs, fitted.method, fitted.parameters) < 1e-5


def test_a_graph_in_half_precision_computes_the_score_in_float32(
    fitted: UnknownFit, head: QuickHead, tmp_path: Path
) -> None:
    model = graph(head)
    write_unknown(model, fitted.method, fitted.parameters)
    path = tmp_path / "model.onnx"
    path.write_bytes(to_half(model).SerializeToString())
    opened = ENGINES.get("onnxruntime").open(path, threads=1)
    outputs = opened.run(blobs(40, 5)[0].reshape(-1, 3, 2, 4))
    opened.close()
    assert np.array_equal(outputs.embedding, outputs.embedding.astype(np.float16))
    assert unknown_gap(outputs, fitted.method, fitted.parameters) < 1e-5


def test_a_graph_without_the_score_gives_none(head: QuickHead, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(head).SerializeToString())
    opened = ENGINES.get("onnxruntime").open(path, threads=1)
    assert opened.run(np.zeros((2, 3, 2, 4), np.float32)).unknown_score is None


def test_a_score_is_replaced_and_removed_without_a_trace(fitted: UnknownFit, head: QuickHead) -> None:
    model = graph(head)
    before = model.SerializeToString()
    write_unknown(model, fitted.method, fitted.parameters)
    once = model.SerializeToString()
    write_unknown(model, fitted.method, fitted.parameters)
    assert model.SerializeToString() == once
    remove_unknown(model)
    assert model.SerializeToString() == before


def test_an_operation_set_that_is_too_old_is_refused(fitted: UnknownFit, head: QuickHead) -> None:
    with pytest.raises(BundleError, match="operation set"):
        write_unknown(graph(head, opset=13), fitted.method, fitted.parameters)


def test_fitting_twice_gives_the_same(fitted: UnknownFit, head: QuickHead) -> None:
    known, labels = blobs(200, 2)
    images = KnownImages(embeddings=known, logits=head.logits(known), labels=labels)
    again = fit_unknown(*blobs(300, 1), images, rate=0.05, method=fitted.method, temperature=1.5)
    assert again is not None
    assert again.threshold == fitted.threshold
    one, other = (_bytes(found.parameters) for found in (again, fitted))
    assert one == other


def _bytes(parameters: Parameters) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in parameters.items()}
