"""Maps of graphs whose reasons are known: a class score that looks at one half of the image, and a convolution with a
linear head, whose shares can be added up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.stats import spearmanr

from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError
from sortal.core.labels import LabelSet
from sortal.core.preprocess import PreprocessSpec
from sortal.evaluate.explain.checks import deletion, rank_correlation
from sortal.evaluate.explain.maps import additive_map, enlarged, occlusion_map
from sortal.evaluate.explain.viewed import log_odds, randomized, viewed
from sortal.runtime.macs import count_graph_macs
from sortal.runtime.metadata import ArtifactInfo, to_metadata
from sortal.runtime.onnx_file import read_model
from sortal.runtime.stored_weights import linear_head, stored_tensors, with_random_weights

SIZE, CHANNELS, CLASSES = 32, 6, 3


def small_graph(path: Path, *, head: bool = True) -> Path:
    """Conv 3x3 stride 2, ReLU, signed root of the mean, Gemm: a head as the exporter writes it."""
    random = np.random.default_rng(0)
    make, info = helper.make_node, helper.make_tensor_value_info
    stored = {
        "kernel": random.normal(size=(CHANNELS, 3, 3, 3)).astype(np.float32),
        "space": np.asarray([2, 3], np.int64),
        "head.weight": random.normal(size=(CLASSES, CHANNELS)).astype(np.float32),
        "head.bias": random.normal(size=CLASSES).astype(np.float32),
    }
    nodes = [
        make("Conv", ["image", "kernel"], ["raw"], strides=[2, 2], pads=[1, 1, 1, 1]),
        make("Relu", ["raw"], ["feature_map"]),
        make("ReduceMean", ["feature_map", "space"], ["mean"], keepdims=0),
        make("Sqrt", ["mean"], ["embedding"]),
        make("Gemm", ["embedding", "head.weight", "head.bias"], ["logits"], transB=1),
    ]
    half = SIZE // 2
    shapes = {"logits": [CLASSES], "embedding": [CHANNELS], "feature_map": [CHANNELS, half, half]}
    graph = helper.make_graph(
        nodes,
        "small",
        [info("image", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [info(name, TensorProto.FLOAT, ["batch", *dims]) for name, dims in shapes.items()],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    spec = PreprocessSpec(size=(SIZE, SIZE), resize="stretch", mean=(0.5,) * 3, std=(0.5,) * 3)
    labels = LabelSet(names=tuple("abc"))
    told = ArtifactInfo(
        labels=labels, preprocess=spec, decision=DecisionSpec(), bundle_id="0" * 64, licence="Apache-2.0"
    )
    for key, value in to_metadata(told).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_graph(tmp_path_factory.mktemp("graph") / "model.onnx")


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def test_a_class_that_looks_at_the_left_half_gets_a_map_of_the_left_half(image: np.ndarray) -> None:
    """The score is the contrast of the left half, which a blur takes away."""

    def scores(pixels: np.ndarray) -> np.ndarray:
        return pixels[:, :, : SIZE // 2].astype(float).std(axis=(1, 2, 3))

    found = occlusion_map(scores, image)
    assert found.shape == (SIZE, SIZE)
    assert found[:, : SIZE // 2 - SIZE // 4].min() > 0
    assert np.abs(found[:, SIZE // 2 + SIZE // 4 :]).max() == pytest.approx(0)
    told = deletion(scores, image, found)
    assert told.faithful
    assert told.salient > told.random
    wrong = deletion(scores, image, -found)
    assert not wrong.faithful


def test_the_additive_map_adds_up_to_the_score(graph: Path, image: np.ndarray) -> None:
    with viewed(graph, threads=1) as view:
        outputs = view.outputs(image[None])
        assert view.head is not None
        found = additive_map(outputs.feature_map[0], outputs.embedding[0], view.head, 1)
    assert found is not None
    _, bias = view.head
    logits = outputs.logits[0].astype(float)
    assert found.score == pytest.approx(logits[1] - logits.mean(), abs=1e-5)
    assert found.values.sum() == pytest.approx(logits[1] - bias[1] - (logits - bias).mean(), abs=1e-4)
    assert found.share == pytest.approx(found.values.sum() / found.score)


def test_the_class_activation_map_of_plain_means(image: np.ndarray) -> None:
    random = np.random.default_rng(2)
    maps, weight = random.random((4, 3, 5)).astype(np.float32), random.normal(size=(3, 4)).astype(np.float32)
    other = random.random(7).astype(np.float32)
    embedding = np.concatenate([other, maps.mean(axis=(1, 2))])
    head = (np.concatenate([np.zeros((3, 7), np.float32), weight], axis=1), np.zeros(3, np.float32))
    found = additive_map(maps, embedding, head, 2)
    assert found is not None
    expected = np.einsum("f,fhw->hw", weight[2] - weight.mean(0), maps) / 15
    assert found.values == pytest.approx(expected, abs=1e-5)
    assert found.share == pytest.approx(1.0, abs=1e-4)
    assert additive_map(maps, random.random(11).astype(np.float32), head, 2) is None


def test_random_weights_change_every_map(graph: Path, image: np.ndarray) -> None:
    """The sanity check of Adebayo et al.: a map that stays shows the image, not what was learned."""
    with viewed(graph, threads=1) as view, randomized(view, threads=1) as twin:
        assert twin is not None
        assert view.head is not None
        assert twin.head is not None
        one, other = view.outputs(image[None]), twin.outputs(image[None])
        assert np.abs(one.logits - other.logits).max() > 1e-3
        maps = [
            occlusion_map(lambda pixels, side=side: side.scores(pixels, 0), image)  # type: ignore[misc]
            for side in (view, twin)
        ]
        assert rank_correlation(*maps) < 0.9
    edges = np.abs(np.diff(image.astype(float).mean(axis=2), axis=0))  # an edge detector never changes
    assert rank_correlation(edges, edges) == pytest.approx(1.0)


def test_weights_are_shuffled_within_their_tensors(graph: Path) -> None:
    data = read_model(graph)
    before = {one.name: one for one in stored_tensors(data, where="a")}
    after = {one.name: one for one in stored_tensors(with_random_weights(data, seed=0, where="a"), where="a")}
    assert before["kernel"].shape == (CHANNELS, 3, 3, 3)
    assert not np.array_equal(before["kernel"].values, after["kernel"].values)
    assert np.array_equal(np.sort(before["kernel"].values), np.sort(after["kernel"].values))
    assert np.array_equal(before["head.bias"].values, after["head.bias"].values)
    model = onnx.load(graph)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weight, bias = linear_head(data, where="a") or pytest.fail("no head")
    assert np.array_equal(weight, stored["head.weight"])
    assert np.array_equal(bias, stored["head.bias"])
    del model.graph.initializer[:]
    with pytest.raises(BundleError, match="no weights"):
        with_random_weights(model.SerializeToString(), seed=0, where="a")


def test_macs_are_counted_from_shapes(graph: Path) -> None:
    half = SIZE // 2
    assert count_graph_macs(graph) == half * half * CHANNELS * 27 + CHANNELS * CLASSES


def test_macs_of_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(BundleError):
        count_graph_macs(tmp_path / "model.onnx")


def test_rank_correlation_is_scipys() -> None:
    random = np.random.default_rng(3)
    one, other = random.integers(0, 6, (8, 8)).astype(float), random.random((8, 8))
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)
    assert rank_correlation(np.ones((4, 4)), np.arange(16.0).reshape(4, 4)) == 0.0


def test_log_odds_are_those_of_the_softmax() -> None:
    logits = np.random.default_rng(4).normal(size=(5, 4))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert log_odds(logits, 2) == pytest.approx(np.log(chances[:, 2] / (1 - chances[:, 2])))
    assert np.isfinite(log_odds(np.array([[800.0, 0.0]]), 0)).all()


def test_maps_are_enlarged_in_place() -> None:
    large = enlarged(np.array([[0.0, 1.0], [0.0, 1.0]]), (6, 8))
    assert large.shape == (6, 8)
    assert (np.diff(large, axis=1) >= 0).all()
    assert np.ptp(large, axis=0).max() == pytest.approx(0)
