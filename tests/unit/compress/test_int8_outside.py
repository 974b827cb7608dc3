"""Candidates that other tools make: dynamic quantization of linear layers, and NNCF in a process of its own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from smallgraph import small_images
from sortal.compress.images import Material
from sortal.compress.judge import answer
from sortal.compress.outside import outside_candidates
from sortal.compress.pricing import Budget, Pricing
from sortal.compress.search import Search
from sortal.core.bundle import Bundle, open_bundle
from sortal.core.progress import Silent
from sortal.export.artifacts import ARTIFACTS
from sortal.export.conversion import convert_apart
from sortal.runtime.classifier import open_classifier
from sortal.runtime.engines import ENGINES

needs_nncf = pytest.mark.skipif(find_spec("nncf") is None or find_spec("openvino") is None, reason="needs nncf")


class Heard(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


def _search(bundle: Bundle, original: Path, folder: Path) -> Search:
    material = Material(
        calibration=small_images(24), judged=small_images(40, seed=1), source="memory", digest="0" * 64, findings=()
    )
    answers = answer(ENGINES.get("onnxruntime").open(original, threads=1), bundle, material.judged)
    size = original.stat().st_size
    pricing = Pricing(bundle=bundle, material=material, original=answers, size_bytes=size, budget=Budget(max_drop=0.5))
    return Search(original, pricing, folder=folder, listener=Silent())


@pytest.fixture
def linear_file(graph_file: Path, tmp_path: Path) -> Path:
    """The small graph with two more linear layers, which together compute what its head computes."""
    model = onnx.load_model_from_string(graph_file.read_bytes())
    random = np.random.default_rng(7)
    turn = np.linalg.qr(random.normal(size=(16, 16)))[0].astype(np.float32)
    for name, value in (("turn", turn), ("back", np.ascontiguousarray(turn.T))):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    head = next(node for node in model.graph.node if node.name == "head")
    at = list(model.graph.node).index(head)
    head.input[0] = "turned back"
    model.graph.node.insert(at, helper.make_node("MatMul", ["turned", "back"], ["turned back"], name="second"))
    model.graph.node.insert(at, helper.make_node("MatMul", ["embedding", "turn"], ["turned"], name="first linear"))
    path = tmp_path / "linear.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_dynamic_quantization_rounds_linear_layers_and_says_which_it_left(
    bundle_path: Path, linear_file: Path, tmp_path: Path
) -> None:
    search = _search(open_bundle(bundle_path), linear_file, tmp_path)
    found = outside_candidates(linear_file, search, tmp_path, Silent(), time_limit_s=0.01)
    assert [one.method for one in found] == ["PTQ dynamic"]
    one = found[0]
    assert one.layers == {"stem": False, "body": False, "first linear": True, "second": True, "head": True}
    assert one.floating == ("stem", "body")
    assert one.price.drop == 0.0
    stored = [numpy_helper.to_array(tensor) for tensor in onnx.load(one.path).graph.initializer]
    assert {array.dtype.name for array in stored if array.ndim == 4} == {"float32"}
    assert sum(array.dtype == np.int8 and array.ndim == 2 for array in stored) == 3


@needs_nncf
def test_a_tool_that_takes_too_long_is_left_out_and_said(bundle_path: Path, graph_file: Path, tmp_path: Path) -> None:
    heard = Heard()
    search = _search(open_bundle(bundle_path), graph_file, tmp_path)
    assert outside_candidates(graph_file, search, tmp_path, heard, time_limit_s=0.2) == []
    assert any("NNCF made nothing" in sentence and "0.2 s" in sentence for sentence in heard.sentences)


@needs_nncf
@pytest.mark.slow
def test_nncf_rounds_all_layers_and_its_file_says_whose_it_is(graph_file: Path, tmp_path: Path) -> None:
    made, again = tmp_path / "made", tmp_path / "again"
    made.mkdir()
    again.mkdir()
    convert_apart("openvino-int8", graph_file, made, pixels=small_images(16).pixels)
    member = ARTIFACTS.get("openvino-int8")
    assert set(member.layers(made / "model.xml").values()) == {True}
    images = small_images(12, seed=5)
    with open_classifier(made / "model.xml", threads=1) as small, open_classifier(graph_file, threads=1) as large:
        assert small.labels == large.labels
        answers = small.predict(list(images.pixels))
        assert answers.index.tolist() == large.predict(list(images.pixels)).index.tolist()
    member.restamped(made, graph_file, again)
    with open_classifier(again / "model.xml", threads=1) as other:
        assert other.predict(list(images.pixels)).index.tolist() == answers.index.tolist()
